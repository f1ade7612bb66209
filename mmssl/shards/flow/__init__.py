"""Optical flow, estimated while shards are built: options, estimators, and how fields are stored."""

from mmssl.shards.flow.estimators import Estimator, estimate_flow
from mmssl.shards.flow.options import FlowOptions

__all__ = ["Estimator", "FlowOptions", "estimate_flow"]
