"""The peer: TF-IDF of word 1-2-grams and logistic regression, from a file to a model file.

    python -m benches.peer_sklearn train.parquet model.joblib [test.parquet]

With a third argument it prints the accuracy there instead of training.
"""

import sys
from typing import Any

import joblib
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def columns(path: str) -> tuple[list[str], list[str]]:
    table = pq.read_table(path, columns=["text", "label"])
    return table["text"].to_pylist(), table["label"].to_pylist()


def main() -> None:
    train, model_path, *test = sys.argv[1:]
    if test:
        model: Any = joblib.load(model_path)
        print(model.score(*columns(test[0])))
        return
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(*columns(train))
    joblib.dump(model, model_path)


if __name__ == "__main__":
    main()
