"""Attempts to make a file of weights do something."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from ckf.core.errors import DataError
from ckf.core.safe_torch import read_weights


class Call:
    """Pickles as a call of anything."""

    def __init__(self, what, *args) -> None:
        self.what, self.args = what, args

    def __reduce__(self):
        return self.what, self.args


def code(text: str) -> bytes:
    """A pickle from its opcodes: lines of protocol 0."""
    data = text.encode()
    pickletools.dis(data, out=io.StringIO())
    return data


def archive(path: Path, data: bytes, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)
        for name, content in parts.items():
            file.writestr(f"a/{name.replace('_', '/')}", content)
    return path


ASKED = {
    "system": lambda owned: pickle.dumps(Call(os.system, f"touch {owned}")),
    "builtins eval": lambda owned: pickle.dumps(Call(eval, f"open({str(owned)!r}, 'w')")),
    "getattr": lambda owned: pickle.dumps(Call(getattr, OrderedDict(), "pop")),
    "dotted name": lambda owned: b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
    "dotted shell": lambda owned: b"\x80\x04\x8c\x12torch.nn.modules.a\x8c\x0f__class__.mro_x\x93.",
    "torch.load": lambda owned: pickle.dumps(Call(torch.load, "x")),
    "torch.hub": lambda owned: code("ctorch.hub\nload\n."),
    "jit": lambda owned: pickle.dumps(Call(torch.jit.load, "x")),
    "module function": lambda owned: code("ctorch.nn.functional\nrelu\n."),
    "numpy load": lambda owned: code("cnumpy\nload\n."),
    "numpy frombuffer": lambda owned: code("cnumpy.core.numeric\n_frombuffer\n."),
    "import by name": lambda owned: code("cimportlib\nimport_module\n(Vos\ntR."),
}


@pytest.mark.parametrize("form", ["pkl", "pt"])
@pytest.mark.parametrize("attempt", ASKED, ids=str)
def test_names_that_tensors_do_not_need_are_refused(tmp_path, form, attempt):
    owned = tmp_path / "owned"
    data = ASKED[attempt](owned)
    path = tmp_path / f"w.{form}"
    path.write_bytes(data) if form == "pkl" else archive(path, data)
    with pytest.raises(DataError, match="refused: the pickle asks for"):
        read_weights(path)
    assert not owned.exists()


@pytest.mark.parametrize("name", ["torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_parameter"])
def test_a_pickle_cannot_change_what_it_calls(tmp_path, name):
    """``BUILD`` on a function would set its defaults, for the rest of the process."""
    before = torch._utils._rebuild_parameter.__defaults__, torch._utils._rebuild_tensor_v2.__defaults__
    path = tmp_path / "w.pkl"
    path.write_bytes(code(f"c{name}\n(N(dV__defaults__\n(I1\nI2\ntstb."))
    with pytest.raises(DataError, match="refused: the pickle tries to change a function"):
        read_weights(path)
    assert (torch._utils._rebuild_parameter.__defaults__, torch._utils._rebuild_tensor_v2.__defaults__) == before


def test_torch_classes_are_not_handed_out(tmp_path):
    """``torch.FloatStorage`` is a class whose attributes a pickle could set; here it is a dtype."""
    path = tmp_path / "w.pkl"
    path.write_bytes(code("ctorch\nFloatStorage\n(N(dVmark\nI7\nstb."))
    with pytest.raises(DataError, match="not a readable torch file"):
        read_weights(path)
    assert not hasattr(torch.FloatStorage, "mark")


@pytest.mark.filterwarnings("ignore:.*jit.script.*:DeprecationWarning")
def test_torchscript_is_not_run(tmp_path):
    class Program(torch.nn.Module):
        def forward(self, x):
            return x

    path = tmp_path / "program.pt"
    torch.jit.script(Program()).save(str(path))
    with pytest.raises(DataError, match="refused: "):
        read_weights(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    data = code(
        "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
        "I0\n(I1000\nI1000\nt(I1000\nI1\nttR."
    )
    with pytest.raises(DataError, match="not a readable torch file"):
        read_weights(archive(tmp_path / "w.pt", data, data_0=bytes(16)))
    inside = data.replace(b"1000", b"2")
    assert read_weights(archive(tmp_path / "v.pt", inside, data_0=bytes(16)))[""].shape == (2, 2)


def test_what_lies_outside_of_the_pickle_is_numbers_alone(tmp_path):
    with pytest.raises(DataError, match=r"refused: .* not an array of numbers"):
        read_weights(archive(tmp_path / "w.pt", code("(Vmodule\nI1\nV/etc/passwd\ntQ.")))
    data = code("(Vstorage\nctorch\nFloatStorage\nV../../outside\nVcpu\nI1\ntQ.")
    with pytest.raises(DataError, match="not a readable torch file"):
        read_weights(archive(tmp_path / "v.pt", data))


def test_compressed_archives_and_old_modules_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"x" * 1000)
    with pytest.raises(DataError, match=r"refused: not an archive in the format of torch\.save"):
        read_weights(path)
    torch.save(torch.nn.Embedding(2, 2), path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"before 1.6; save its state_dict\(\) instead"):
        read_weights(path)
    torch.save(torch.nn.Embedding(2, 2).state_dict(), path, _use_new_zipfile_serialization=False)
    assert list(read_weights(path)) == ["weight"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_whole_modules_keep_their_numbers(tmp_path, dtype):
    module = torch.nn.Module()
    module.inner = torch.nn.Embedding.from_pretrained(torch.arange(6).view(3, 2).to(dtype))
    module.register_buffer("part", torch.arange(12).view(3, 4).to(dtype)[1:, ::2])
    torch.save(module, tmp_path / "m.pt")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(module))
    for name in ("m.pt", "m.pkl"):
        found = read_weights(tmp_path / name)
        assert torch.equal(found["inner.weight"], module.inner.weight)
        assert torch.equal(found["part"], module.part)
