def start():
    import sys
    if sys.path and not sys.path[0]:
        del sys.path[0]
    import os
    for name in sys.argv[1:]:
        os.environ.pop(name, None)
    del sys.argv[1:]
    import _imp
    class spec:
        name = "mod_wsgi_engine"
        origin = "/proc/self/fd/5"
    try:
        _imp.create_dynamic(spec)
    except ImportError:
        if spec.name not in sys.modules:
            raise
    return sys.modules.pop(spec.name).serve

globals().pop("start")()()
