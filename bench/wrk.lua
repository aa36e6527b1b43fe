-- Sends what one workload asks for and prints the outcome as one line of JSON.
-- usage: wrk … -s wrk.lua URL -- BYTES_TO_UPLOAD [lanes]
-- With `lanes` the first thread asks for URL0, the second for URL1, and so on.

local threads = 0

function setup(thread)
  thread:set("lane", threads)
  threads = threads + 1
end

function init(args)
  local upload = tonumber(args[1])
  if upload > 0 then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.body = string.rep("x", upload)
  end
  if args[2] == "lanes" then
    wrk.path = wrk.path .. lane
  end
  -- Made once: what the load generator does per request slows the servers down, too.
  local text = wrk.format()
  function request()
    return text
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50": %.1f, "p99": %.1f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
