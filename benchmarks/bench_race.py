"""Measurements that take turns, each in a process of its own.

What one form leaves in the allocator would change the time of the next; a machine that slows down slows all of them.
"""

import multiprocessing

from kws.errors import KwsError
from kws.sweep.worker import check_temporary_folder, fork_server


def prepare_server(config):
    """Tell multiprocessing's fork server, before its first process, to import and read all that is measured.

    It is the fork server of `kws sweep` with the bench's own modules; it keeps the environment that it starts in.
    """
    check_temporary_folder()
    fork_server(config, "kws.bench_clock", "kws.bench_parts", "kws.bench_baseline")


def race(forms, repeats, progress=None):
    """Return {name: [numbers of a repeat, …]} of {name: (timed function, its arguments …)}; one warm-up each.

    Raises KwsError where a measurement's process dies; what it had to say stands on stderr.
    """
    context = multiprocessing.get_context("forkserver")
    processes, connections = [], {}
    try:
        for name, (prepare, *arguments) in forms.items():
            connections[name], theirs = context.Pipe()
            # Not a daemon: the plain loop starts processes of its own.
            processes.append(context.Process(target=_serve, args=(theirs, prepare, arguments)))
            processes[-1].start()
            theirs.close()
        for name, connection in connections.items():
            _ask(connection, name)  # the warm-up
        results = {name: [] for name in forms}
        for repeat in range(repeats):
            for name, connection in connections.items():
                if progress:
                    progress(f"{name}, {repeat + 1} of {repeats}")
                results[name].append(_ask(connection, name))
        return results
    finally:
        for connection in connections.values():
            connection.close()  # which ends its process
        for process in processes:
            process.join()


def _ask(connection, name):
    try:
        connection.send(None)
        return connection.recv()
    except (EOFError, OSError):
        raise KwsError(f"bench: the process that measured {name!r} died; its message stands above") from None


def _serve(connection, prepare, arguments):
    once = prepare(*arguments)
    try:
        while True:
            connection.recv()
            connection.send(once())
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the bench has all it wanted
        pass
