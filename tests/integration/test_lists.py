"""Lists in pages, from the real API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from longtask_operator.adapters.kube import Kube, load_credentials, resource_path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
NAMESPACE = "pages"
CONFIGS = resource_path("v1", "configmaps", NAMESPACE)
OURS = {"labelSelector": "pages=yes"}


@pytest.fixture(scope="module")
def kubeconfig(control_plane: Any) -> str:
    async def fill() -> None:
        async with Kube(load_credentials({"KUBECONFIG": path})) as kube:
            await kube.create(resource_path("v1", "namespaces"), {"metadata": {"name": NAMESPACE}})
            for number in range(5):
                await kube.create(CONFIGS, {"metadata": {"name": f"c{number}", "labels": {"pages": "yes"}}})

    path = str(control_plane.kubeconfig)
    asyncio.run(fill())
    return path


def test_all_pages_of_one_list_come_in_order(kubeconfig: str) -> None:
    async def names() -> list[list[str]]:
        async with Kube(load_credentials({"KUBECONFIG": kubeconfig})) as kube:
            return [
                [item["metadata"]["name"] for item in page["items"]]
                async for page in kube.list_pages(CONFIGS, OURS, limit=2)
            ]

    assert asyncio.run(names()) == [["c0", "c1"], ["c2", "c3"], ["c4"]]


def test_the_next_page_comes_while_one_is_worked_on(kubeconfig: str) -> None:
    answers: list[str] = []

    async def until(count: int) -> int:
        async with asyncio.timeout(90):
            while len(answers) < count:  # noqa: ASYNC110 - the API server changes it
                await asyncio.sleep(0.001)
        return len(answers)

    async def read() -> list[int]:
        credentials = load_credentials({"KUBECONFIG": kubeconfig})
        async with Kube(credentials, observe=lambda verb, *_: answers.append(verb)) as kube:
            awaited = iter([2, 3, 3])
            return [await until(next(awaited)) async for _ in kube.list_pages(CONFIGS, OURS, limit=2)]

    assert asyncio.run(read()) == [2, 3, 3]


def test_who_needs_no_more_pages_leaves_nothing_behind(kubeconfig: str) -> None:
    async def leave() -> set[str]:
        async with Kube(load_credentials({"KUBECONFIG": kubeconfig})) as kube:
            pages = kube.list_pages(CONFIGS, OURS, limit=2)
            await anext(pages)
            await pages.aclose()
            await asyncio.sleep(0)
            return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert asyncio.run(leave()) == set()
