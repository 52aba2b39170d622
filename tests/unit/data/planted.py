"""A world on disk whose tables a test changes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


class Planted:
    """A world's tables in memory; what is changed is written back, the rest stays as it was."""

    def __init__(self, dataset: Path, examples: Path) -> None:
        self.dataset, self.folder = dataset, examples
        self.examples = pq.read_table(examples / "examples.parquet").to_pandas()
        self.interactions = pq.read_table(dataset / "interactions.parquet").to_pandas()
        self.items = pd.read_parquet(dataset / "items.parquet")
        self.users = pd.read_parquet(dataset / "users.parquet")

    def save(self) -> None:
        for table, path in (
            (self.examples, self.folder / "examples.parquet"),
            (self.interactions, self.dataset / "interactions.parquet"),
        ):
            schema = pq.read_schema(path)
            columns = [
                pa.array(table[name].tolist(), schema.field(name).type, from_pandas=True) for name in schema.names
            ]
            pq.write_table(pa.table(columns, schema=schema), path)
        self.items.to_parquet(self.dataset / "items.parquet", index=False)
        self.users.to_parquet(self.dataset / "users.parquet", index=False)

    def index(self, task: str, split: str | None = None, history: int = 0) -> int:
        """A row of a task with at least so many history items."""
        rows = self.examples
        keep = (rows["task"] == task) & (rows["history"].str.len() >= history)
        if split:
            keep &= rows["split"] == split
        return int(rows.index[keep][0])

    def set(self, index: int, column: str, value: object) -> None:
        self.examples.at[index, column] = value

    def mine(self, index: int, split: str | None = None) -> pd.DataFrame:
        """Interactions of an example's user, oldest first."""
        row = self.examples.loc[index]
        rows = self.interactions[self.interactions["user"] == row["user"]].sort_values(["timestamp", "item"])
        return rows[rows["split"] == split] if split else rows
