import hashlib
import json
import tarfile
from pathlib import Path

from devcluster import archive


def test_the_archive_holds_one_layer_with_the_program(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    target = tmp_path / "image.tar"
    archive.write_program_image(target, program, "localhost/pause:1")
    with tarfile.open(target) as image:
        files = {name: image.extractfile(name).read() for name in image.getnames()}  # type: ignore[union-attr]
    (manifest,) = json.loads(files["manifest.json"])
    config = json.loads(files[manifest["Config"]])
    layer = files[manifest["Layers"][0]]
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    assert config["config"] == {"User": "65535:65535", "Entrypoint": ["/pause"]}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    # buildah refuses an image whose history does not name as many layers as there are
    assert len(config["history"]) == 1


def test_nothing_unfinished_stays(tmp_path: Path) -> None:
    archive.write(tmp_path / "image.tar", b"", "a:1", {})
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]
