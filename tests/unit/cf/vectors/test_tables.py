"""Tables stay on disk: opening them, and gathering rows, reads next to nothing of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ckf.cf.vectors.tables import VectorTables, trained_rows
from ckf.core.errors import ArtifactError

_GATHER = """
import sys, torch
from pathlib import Path
from ckf.cf.vectors.tables import VectorTables

def file_pages():
    lines = open("/proc/self/smaps").read().split("users.safetensors")[1:]
    return sum(int(part.split("Rss:")[1].split()[0]) for part in lines)

tables = VectorTables.load(Path(sys.argv[1]))
opened = file_pages()
rows = tables.users[torch.tensor([1, 200_000, 399_999])]
shuffled = tables.shuffled(0)
other = shuffled.users[torch.tensor([1, 2, 3])]
gathered = file_pages()
tables.users.sum()
print(opened, gathered, file_pages(), int(rows[1, 0]))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="page counts are read from Linux's /proc")
def test_only_gathered_rows_are_paged_in(tmp_path):
    table = torch.arange(400_000).float().unsqueeze(1).repeat(1, 64)  # 100 MB
    save_file({"vectors": table}, tmp_path / "users.safetensors")
    save_file({"vectors": table[:2].clone()}, tmp_path / "items.safetensors")
    done = subprocess.run([sys.executable, "-c", _GATHER, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened, gathered, everything, value = map(int, done.stdout.split())
    assert value == 200_000
    assert everything > 90_000, "the whole table, in kB, once it is summed: the measure measures"
    assert opened < 5_000
    assert gathered < 20_000


def test_statistics_of_a_large_table_are_those_of_a_sample_of_its_rows():
    table = torch.arange(300_000).float()[:, None].repeat(1, 2)
    table[::2] = 0
    rows = trained_rows(table)
    assert 45_000 < len(rows) < 55_000, "half of a sample of 100,000"
    assert (rows[:, 0] % 2 == 1).all()
    assert rows.mean() == pytest.approx(150_000, rel=0.02)
    assert torch.equal(rows, trained_rows(table)), "the same sample each time"
    small = table[:1000]
    assert torch.equal(trained_rows(small), small[1::2]), "all rows of a small one"


def test_shuffling_copies_no_table():
    table = torch.arange(40.0).view(20, 2)
    shuffled = VectorTables(table, table).shuffled(3)
    assert shuffled.users.table is table
    again = shuffled.shuffled(4)
    assert sorted(again.users[:][:, 0].tolist()) == table[:, 0].tolist()
    assert not torch.equal(again.users[:], shuffled.users[:])
    assert shuffled.users.shape == table.shape


def test_tables_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"users.safetensors: no such file"):
        VectorTables.load(tmp_path)
    for kind, width in (("users", 3), ("items", 2)):
        save_file({"vectors": torch.zeros(4, width)}, tmp_path / f"{kind}.safetensors")
    with pytest.raises(ArtifactError, match="user vectors are 3 wide, item vectors 2"):
        VectorTables.load(tmp_path)
