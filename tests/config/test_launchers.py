"""Launchers: the batch script that submitit makes, and jobs of a cluster played by a few shell scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckf.cli.main import main
from ckf.config.compose import compose
from ckf.config.schema import SlurmLauncherConfig
from ckf.config.sweep_file import Trial
from ckf.sweep.trial_folder import make_trial_spec

pytest.importorskip("submitit", reason="launcher=slurm needs the extra `slurm`")


def test_dry_run_prints_the_batch_script_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["launcher=slurm", "launcher.dry_run=true", "launcher.partition=gpu", "launcher.timeout_min=90"]
    more = ["launcher.mem_gb=64", "launcher.setup=[module load cuda]", "launcher.extra=['mail-type=FAIL']"]
    assert main(["-m", "seed=0,1", "trainer=gpu", *argv, *more]) == 0
    said = capsys.readouterr().out
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --time=90",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --mem=64GB",
        "#SBATCH --mail-type=FAIL",
        "module load cuda",
    ):
        assert line in said.splitlines(), line
    assert re.search(r"^srun .* -m ckf\.sweep\.trial_process outputs/sweeps/multirun-\w+/001-seed=0$", said, re.M)
    assert "#SBATCH --account" not in said
    assert "nothing was submitted (launcher.dry_run); 2 trials would be" in said
    assert not list(tmp_path.glob("outputs/sweeps/*/*/outcome.json"))


def test_a_task_for_each_process_that_trains(tmp_path: Path) -> None:
    from ckf.sweep.slurm import batch_script

    config = compose(["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "train.global_batch_size=64"])[0]
    script = batch_script(SlurmLauncherConfig(name="slurm"), make_trial_spec(tmp_path, 1, Trial("t", ()), config))
    for line in ("#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=4"):
        assert line in script.splitlines()


def test_without_slurm_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["-m", "seed=0,1", "launcher=slurm"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ckf: launcher=slurm: ")
    assert line.endswith("launcher.dry_run=true shows the batch script, launcher=local runs here")


SCRIPTS = {
    # a cluster of one machine: a job runs at once, its id is its place in the list of jobs
    "sbatch": """#!/bin/bash
id=$(( $(ls "$FAKE" | wc -l) + 1 ))
job="SLURM_JOB_ID=$id SLURM_PROCID=0 SLURM_NTASKS=1"
sed "s/^srun .*--error [^ ]* /$job /" "${@: -1}" > "$FAKE/$id.sh"
(SLURM_JOB_ID=$id bash "$FAKE/$id.sh" > "$FAKE.$id.out" 2>&1; touch "$FAKE.$id.done") > /dev/null 2>&1 &
echo "Submitted batch job $id"
""",
    "srun": "#!/bin/bash\n",
    "sacct": """#!/bin/bash
echo "JobID|State|NodeList"
for script in "$FAKE"/*.sh; do
  id=$(basename "$script" .sh)
  if [ -f "$FAKE.$id.done" ]; then echo "$id|COMPLETED|here"; else echo "$id|RUNNING|here"; fi
done
""",
    "scancel": "#!/bin/bash\n",
}


def test_trials_run_as_jobs_and_are_found_when_they_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    place = tmp_path / "bin"
    place.mkdir()
    for name, text in SCRIPTS.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (tmp_path / "jobs").mkdir()
    monkeypatch.setenv("FAKE", str(tmp_path / "jobs"))
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    argv = ["prepare", "-m", "dataset.data_seed=0,1", "dataset.users=20", "dataset.items=30",
            "dataset.interactions_per_user=8", "launcher=slurm", "launcher.poll_s=0.2"]  # fmt: skip
    assert main(argv) == 0, capsys.readouterr()
    assert "sweep: 2 done, 0 already done, 0 failed" in capsys.readouterr().out
    assert len(list((tmp_path / "cache/dataset").glob("synthetic-*"))) == 2
    assert main(argv) == 0
    assert "sweep: 0 done, 2 already done, 0 failed" in capsys.readouterr().out
