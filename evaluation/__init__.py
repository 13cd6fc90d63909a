"""Measures: rankings and what users really did come in, metrics with intervals go out."""

from evaluation.judgements import Judgement

__all__ = ["Judgement"]
