"""The command line: one function per command; results on stdout, progress and errors on stderr.

Exit codes: 0 done, 1 it did not work (one sentence says what to do), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devcluster import api, base_image, binaries, bringup, builder, cache, components, families
from devcluster.console import on_terminal
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.run
    try:
        return command(options) or 0
    except DevclusterError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # the reader has seen enough, as in `logs | head`; the interpreter would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devcluster",
        description="A real Kubernetes as plain processes, without Docker. Several clusters can run side by side.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _cluster_commands(commands)
    _image_commands(commands)
    _binary_commands(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], help_: str) -> Any:
    parser = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _of_cluster(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], help_: str) -> Any:
    parser = _command(commands, name, run, help_)
    parser.add_argument("--name", default="longtask", help="name of the cluster (default: %(default)s)")
    return parser


def _cluster_commands(commands: Any) -> None:
    parser = _of_cluster(commands, "up", _up, "bring a cluster up; returns at once when it already runs")
    parser.add_argument(
        "--nodes",
        default="real",
        help="real: a node that runs pods, as root; none: no node; fake:N: N kwok nodes (default: %(default)s)",
    )
    parser.add_argument("--audit-policy", metavar="FILE", help="audit policy of your own for the API server")
    parser.add_argument(
        "--keep-history", action="store_true", help="let etcd keep every revision, for tests that judge by it"
    )
    _of_cluster(commands, "down", _down, "remove a cluster, or what a crash left of it")
    parser = _of_cluster(commands, "status", _status, "show the components and addresses of a cluster")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="format (default: %(default)s)")
    _of_cluster(commands, "kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    parser = _of_cluster(commands, "logs", _logs, "print the log of one component, or the end of all logs")
    parser.add_argument("component", nargs="?", help="component, as `status` names it")
    parser.add_argument("--follow", action="store_true", help="go on printing new lines until interrupted")


def _image_commands(commands: Any) -> None:
    parser = _of_cluster(commands, "load-image", _load_image, "bring an image into a cluster")
    parser.add_argument("image", metavar="ARCHIVE|NAME", help="image archive, or name of an image that the builder has")
    parser = _command(commands, "build-image", _build_image, "build an image archive with Docker, else with buildah")
    parser.add_argument("--tag", required=True, help="name of the image")
    parser.add_argument("--file", type=Path, metavar="DOCKERFILE", help="Dockerfile (default: the one in the context)")
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="KEY=VALUE", help="argument for the Dockerfile; repeatable"
    )
    parser.add_argument(
        "--from-archive",
        action="append",
        default=[],
        type=Path,
        metavar="ARCHIVE",
        help="archive of an image that FROM names; repeatable",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="archive to write")
    parser.add_argument("context", type=Path, help="folder that COPY and ADD read from")
    _command(commands, "base-image", _base_image, f"make {base_image.IMAGE} once and print the path of its archive")
    parser = _command(commands, "prune-cache", _prune_cache, "delete cached files that the present pins do not use")
    parser.add_argument("--all", action="store_true", help="delete all of them: the next run makes everything anew")


def _binary_commands(commands: Any) -> None:
    parser = _command(commands, "binary", _binary, "print the path of a program, built first if it is missing")
    parser.add_argument("tool", choices=sorted(families.TOOLS), metavar="TOOL", help=", ".join(sorted(families.TOOLS)))
    parser = _command(commands, "build-binaries", _build_binaries, "build programs that are missing in the cache")
    parser.add_argument("--nodes", default="real", help="those a cluster with these nodes needs (default: %(default)s)")
    parser.add_argument(
        "--all", action="store_true", help="all of them, also helm, kubeconform, promtool and versitygw"
    )


def _up(options: argparse.Namespace) -> None:
    cluster = api.up(
        options.name,
        nodes=options.nodes,
        audit_policy=str(Path(options.audit_policy).absolute()) if options.audit_policy else None,
        keep_history=options.keep_history,
        progress=on_terminal(),
    )
    print(f"Cluster {cluster.name} is up at {cluster.api_url}. Use it with:", file=sys.stderr)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    progress = on_terminal()
    progress.expect(1)
    with progress.step(f"Removing cluster {options.name}"):
        api.down(options.name)


def _existing(name: str) -> api.Cluster:
    cluster = api.get(name)
    if cluster is None:
        raise DevclusterError(f"There is no cluster {name!r}; start it with `python -m devcluster up --name {name}`.")
    return cluster


def _status(options: argparse.Namespace) -> int:
    cluster = _existing(options.name)
    state = api.describe(cluster)
    if options.output == "json":
        print(json.dumps(state, indent=2))
    else:
        for key, value in state.items():
            lines = [f"  {name}: {text}" for name, text in value.items()] if isinstance(value, dict) else []
            print("\n".join([f"{key}:", *lines]) if lines else f"{key}: {value}")
    return 0 if state["healthy"] else 1


def _kubeconfig(options: argparse.Namespace) -> None:
    print(_existing(options.name).kubeconfig)


def _logs(options: argparse.Namespace) -> int | None:
    paths = ClusterPaths.of(options.name)
    cluster = _existing(options.name)
    if options.component is None:
        for component in components.components(cluster.plan):
            print(f"==> {component} <==\n{bringup.log_tail(paths, component, 10)}\n")
        return 0
    if options.component not in components.components(cluster.plan):
        known = ", ".join(components.components(cluster.plan))
        raise DevclusterError(f"There is no component {options.component!r}; this cluster has {known}.")
    follow = ["--follow"] if options.follow else []
    return subprocess.run(["tail", "--lines=+1", *follow, str(paths.log(options.component))], check=False).returncode


def _load_image(options: argparse.Namespace) -> None:
    for image in _existing(options.name).load_image(options.image):
        print(image)


def _build_image(options: argparse.Namespace) -> None:
    values = [argument.partition("=") for argument in options.build_arg]
    if wrong := [name for name, equals, _ in values if not equals or not name]:
        raise DevclusterError(f"--build-arg {wrong[0]!r} is not KEY=VALUE; write it like --build-arg BASE=debian.")
    order = builder.Order(
        tag=options.tag,
        context=options.context,
        output=options.output,
        dockerfile=options.file,
        arguments={name: value for name, _, value in values},
        parents=options.from_archive,
    )
    builder.build(order, on_terminal())
    print(options.output)


def _base_image(_: argparse.Namespace) -> None:
    print(base_image.ensure(on_terminal()))


def _prune_cache(options: argparse.Namespace) -> None:
    for path in cache.prune(options.all):
        print(f"deleted {path}")


def _binary(options: argparse.Namespace) -> None:
    print(binaries.ensure([options.tool], on_terminal())[options.tool])


def _build_binaries(options: argparse.Namespace) -> None:
    wanted = sorted(families.TOOLS) if options.all else components.tools_for(options.nodes)
    for tool, path in binaries.ensure(wanted, on_terminal()).items():
        print(f"{tool}\t{path}")
