"""Heads share the last layer: each has its rows, and the final student those of one."""

import torch

from distill.models.joint_heads import Head, classifiers, only_head, parameters, side_by_side
from distill.models.joint_start import with_heads
from distill.models.student import build_student, classifier_parameters
from tests.distill.small import TINY

CLASSES = ("blue", "green", "red")
HEADS = side_by_side([Head("teacher", CLASSES), Head("features", (), features=5), Head("labels", CLASSES)])


def test_heads_lie_side_by_side() -> None:
    assert [head.columns for head in HEADS] == [slice(0, 3), slice(3, 8), slice(8, 11)]


def test_a_projection_is_no_classifier() -> None:
    assert [head.name for head in classifiers(HEADS)] == ["teacher", "labels"]


def test_a_student_with_one_of_them_is_an_ordinary_one() -> None:
    student = with_heads(build_student(TINY, CLASSES, 32, 0), HEADS, 0)
    assert student.classes == CLASSES
    plain = build_student(TINY, CLASSES, 32, 0).module
    assert parameters(student, HEADS) == sum(one.numel() for one in plain.parameters())
    every = student.module.state_dict()
    for head in classifiers(HEADS):
        own = only_head(student, every, head)
        plain.load_state_dict(own)
        for name in classifier_parameters(student):
            assert torch.equal(own[name], every[name][head.start : head.stop])
