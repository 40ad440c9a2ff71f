"""The families that ship, each with several options, keep the contract."""

from __future__ import annotations

from family_contract import FamilyContract

EXPANSION = "expansion = [1, 2]"


class TestBasic(FamilyContract):
    name = "basic"


class TestK1KX(FamilyContract):
    name = "k1kx"


class TestBottleneck(FamilyContract):
    name = "bottleneck"


class TestMobile(FamilyContract):
    name = "mobile"
    inner = EXPANSION
    stem = 'activation = "relu6"'


class TestBasicWithGate(FamilyContract):
    name = "basic"
    options = 'activation = "silu"\nse = "sigmoid"\ngroups = 4'
    stem = "focus = true"


class TestK1KXInGroups(FamilyContract):
    name = "k1kx"
    options = 'activation = "hard_swish"\nse = "hard_sigmoid"\ngroups = 2'
    stem = "kernel = 7\nmax_pool = true"


class TestBottleneckWithGate(FamilyContract):
    name = "bottleneck"
    options = 'activation = "silu"\nse = "sigmoid"\ngroups = 8'
    stem = "kernel = 7\nmax_pool = true"


class TestDepthwiseBottleneck(FamilyContract):
    name = "bottleneck"
    options = 'activation = "relu6"\nse = "hard_sigmoid"\ngroups = 0'
    stem = 'focus = true\nactivation = "silu"'


class TestMobileWithGate(FamilyContract):
    name = "mobile"
    inner = EXPANSION
    options = 'activation = "hard_swish"\nse = "hard_sigmoid"'
    stem = 'activation = "hard_swish"'
