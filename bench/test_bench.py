"""The benchmark's own arithmetic and parsing.

usage: python3 -m unittest discover -s bench
"""

import os
import pathlib
import struct
import tempfile
import time
import unittest
from xml.etree import ElementTree

import aims
import counts
import measure
import plot
import processes
import report
from measure import Window
from peers import peers
from results import Results, quartiles, ratios
from server import Fault
from starts import Start
from workloads import WORKLOADS


def sample() -> Results:
    """Two rounds: `embedded` takes 30 and 60 us where `bare` takes 20 and 40."""
    results = Results(
        command="bench/run.py", versions="none", rounds=2, seconds=1,
        peers={"embedded": "ours", "embedded-again": "ours, again", "bare": "limit"},
        rivals={"embedded": "mod_wsgi", "embedded-again": "mod_wsgi", "bare": "mod_wsgi"},
        workloads={"hello": "hello & more"},
    )
    for peer, costs in (("embedded", (30, 60)), ("embedded-again", (33, 57)), ("bare", (20, 40))):
        for cost in costs:
            results.add(peer, "hello", Window(cost, 1000, 100, 200, 0))
    return results


class Statistics(unittest.TestCase):
    def test_quartiles_of_one_value_are_that_value(self):
        self.assertEqual(quartiles([3.0]), (3.0, 3.0, 3.0))

    def test_quartiles_lie_between_the_values(self):
        self.assertEqual(quartiles([4, 1, 3, 2, 5]), (2, 3, 4))

    def test_ratios_are_taken_round_by_round(self):
        # The machine was twice as slow in the second round; the ratio is not.
        self.assertEqual(ratios([30, 60], [20, 40]), (1.5, 1.5, 1.5))

    def test_percentiles_are_values_that_were_seen(self):
        values = list(range(1, 101))
        self.assertEqual(measure.percentile(values, 50), 50)
        self.assertEqual(measure.percentile(values, 99), 99)
        self.assertEqual(measure.percentile([7], 99), 7)

    def test_noise_is_how_far_one_peer_is_from_itself(self):
        # 33 / 30 and 57 / 60: quartiles 0.9875 and 1.0625.
        self.assertAlmostEqual(sample().noise("hello"), 0.0625)


class Parsing(unittest.TestCase):
    def test_strace_table(self):
        text = (
            "% time     seconds  usecs/call     calls    errors syscall\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            " 60.00    0.000600           1       600        12 futex\n"
            " 40.00    0.000400           2       200           read\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            "100.00    0.001000           1       800        12 total\n"
        )
        self.assertEqual(counts.strace_table(text), {"futex": 600, "read": 200})

    H2LOAD = (
        "Application protocol: h2\n"
        "finished in 1.00s, 3.00 req/s, 1.00KB/s\n"
        "requests: 5 total, 5 started, 4 done, 3 succeeded, 1 failed, 1 errored, 0 timeout\n"
    )
    LOG = ["1\t200\t300", "2\t200\t100", "3\t200\t200"]

    def test_h2load(self):
        load = measure.h2load_result(self.H2LOAD, self.LOG, 1)
        self.assertEqual((load.requests, load.errors), (3, 1))
        self.assertEqual((load.p50_us, load.p99_us), (200, 300))

    def test_h2load_without_http2_is_no_result(self):
        with self.assertRaises(Fault):
            measure.h2load_result(self.H2LOAD.replace(": h2", ": http/1.1"), self.LOG, 1)

    def test_rollup(self):
        memory = processes.rollup("55 rollup\nRss:   2048 kB\nPss:   1024 kB\nPss_Anon: 9 kB\n")
        self.assertEqual((memory.rss, memory.pss), (2, 1))

    def test_meter(self):
        self.assertEqual(processes.metered(struct.pack("=QQ", 20_000, 21_000)), [20_000, 21_000])


class Accounting(unittest.TestCase):
    def test_cpu_clock_is_the_one_of_the_process(self):
        before = time.process_time_ns()
        read = time.clock_gettime_ns(processes.cpu_clock(os.getpid()))
        self.assertTrue(before <= read <= time.process_time_ns())

    def test_time_of_ended_children_is_counted(self):
        # utime, stime, cutime and cstime are the fields 14 to 17 of stat; the state is the third.
        fields = "S 1 1 1 0 -1 0 0 0 0 0 11 12 13 14 20 0".split()
        self.assertEqual(processes.waited_ticks(fields), 27)


class Verdicts(unittest.TestCase):
    def aim(self, *limits, **more):
        return aims.Aim("an aim", limits, lambda results: None, **more)

    def test_each_limit_has_a_verdict(self):
        said = aims.verdict(self.aim(0.45, 0.40), sample(), 0.42)
        self.assertEqual(said, "holds / does not hold")

    def test_a_stray_call_is_none(self):
        self.assertEqual(aims.verdict(self.aim(26, counted=True), sample(), 26.04), "holds")
        self.assertEqual(aims.verdict(self.aim(26, counted=True), sample(), 26.1), "does not hold")

    def test_at_least_is_the_other_way_round(self):
        self.assertEqual(aims.verdict(self.aim(50, at_least=True), sample(), 49), "does not hold")

    def test_what_is_within_the_noise_is_said_to_be(self):
        aim = self.aim(1.5, workload="hello")
        self.assertEqual(aims.verdict(aim, sample(), 1.45), "holds, within the noise")
        self.assertEqual(aims.verdict(aim, sample(), 1.2), "holds")

    def test_names_of_peers_and_workloads_exist(self):
        names = {peer.name for peer in peers()}
        workloads = {workload.name for workload in WORKLOADS}
        self.assertLessEqual({name for pair in report.RATIOS for name in pair}, names)
        self.assertLessEqual(set(plot.SERIES), names)
        self.assertLessEqual({peer.rival for peer in peers()}, names)
        for peer in peers():
            self.assertLessEqual({*(peer.answered or ()), *peer.lacks, *(peer.quick or ())},
                                 workloads)

    def test_every_aim_is_measured_by_a_whole_run(self):
        names = [peer.name for peer in peers()]
        results = Results("", "", 1, 1, dict.fromkeys(names, ""), {}, {})
        for workload in WORKLOADS:
            for peer in names:
                results.add(peer, workload.name, Window(1, 1, 1, 1, 0))
        results.syscalls = {name: ({"httpd": {"read": 1}}, {}) for name in names}
        results.instructions = {"embedded": (1, 1)}
        results.starts = {"daemon": [Start(1, 1, 1, 1)]}
        results.interpreter = 1
        for aim in aims.aims():
            if not aim.text.startswith("CPU-bound"):
                self.assertIsNotNone(aim.measured(results), aim.text)


class Page(unittest.TestCase):
    def test_results_are_the_same_after_a_file(self):
        results = sample()
        results.starts["bare"] = [Start(0.1, None, 5.0, None)]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            results.save(path)
            self.assertEqual(Results.load(path), results)

    def test_ratio_stands_in_the_table(self):
        self.assertIn("| hello & more | 1.50 |", report.ratio_table(sample()))

    def test_only_what_is_between_the_markers_is_replaced(self):
        old = "before\n%s\nold\n%s\nafter\n" % (report.BEGIN, report.END)
        new = report.replaced(old, "new")
        self.assertEqual(new, "before\n%s\n\nnew\n\n%s\nafter\n" % (report.BEGIN, report.END))

    def test_half_a_pair_of_markers_is_refused(self):
        with self.assertRaises(Fault):
            report.replaced("before\n%s\n" % report.BEGIN, "new")

    def test_plots_are_well_formed_and_show_every_dot(self):
        results = sample()
        plotted = ElementTree.fromstring(plot.workloads_plot(results))
        self.assertEqual(len(plotted.findall("{http://www.w3.org/2000/svg}circle")), 2)
        self.assertIn("hello & more", "".join(plotted.itertext()))
        ElementTree.fromstring(plot.hello_plot(results))

    def test_dearer_is_further_right(self):
        results = sample()
        results.peers["mod_wsgi"] = "theirs"
        results.add("mod_wsgi", "hello", Window(90, 1, 1, 1, 0))
        root = ElementTree.fromstring(plot.hello_plot(results))
        circles = root.findall("{http://www.w3.org/2000/svg}circle")
        # One below the other, the cheapest first.
        across = [float(circle.get("cx")) for circle in circles]
        self.assertEqual(len(across), 3)
        self.assertEqual(across, sorted(across))

    def test_ticks_are_few_and_inside(self):
        for low, high in ((0.5, 20), (20, 40_000), (0.9, 1.4)):
            ticks = plot.ticks(low, high)
            self.assertTrue(2 <= len(ticks) <= 8, ticks)
            self.assertTrue(all(low <= tick <= high for tick in ticks))


if __name__ == "__main__":
    unittest.main()
