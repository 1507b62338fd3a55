import json

from devcluster import kwok


def test_the_stages_are_a_stream_of_documents() -> None:
    documents = [json.loads(part) for part in kwok.stages_json().split("\n---\n")]
    assert documents[1:] == kwok.stages()
    assert [document["kind"] for document in documents[:2]] == ["KwokConfiguration", "Stage"]


def test_no_stage_takes_away_a_finalizer() -> None:
    """kwok's own stages do; then a pod would vanish before its outcome is recorded."""
    assert not [stage for stage in kwok.stages() if "finalizers" in stage["spec"]["next"]]


def test_a_deleted_pod_is_only_removed_once_it_has_ended() -> None:
    (delete,) = [stage for stage in kwok.stages() if stage["spec"]["next"].get("delete")]
    conditions = {item["key"]: item for item in delete["spec"]["selector"]["matchExpressions"]}
    assert conditions[".status.phase"]["values"] == ["Succeeded", "Failed"]
    assert conditions[".metadata.deletionTimestamp"]["operator"] == "Exists"


def test_nodes_are_ready_and_annotated_for_kwok() -> None:
    node = kwok.node("fake-0001")
    assert node["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"}
    assert node["status"]["conditions"][0]["status"] == "True"


def test_a_pod_changes_each_time_it_is_said_to_run() -> None:
    """An old state that kwok sees late repeats the stage in place of the next one; only a change makes it go on."""
    (ready,) = [stage for stage in kwok.stages() if stage["metadata"]["name"] == "pod-ready"]
    assert "message: {{ $now | Quote }}" in ready["spec"]["next"]["statusTemplate"]
