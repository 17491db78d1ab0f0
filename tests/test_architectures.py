"""The architectures of unit 02, assembled from the reference solutions, are the published ones.

Counts and shapes come from the meta device, where nothing is allocated. Nothing is downloaded:
where outputs are compared with those of torchvision, its weights are random.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from autograder.reference import architectures as ours

PUBLISHED = {  # parameters, (C, H, W) of the last maps; docs: the papers named in the notebook
    "lenet5": (61_706, (16, 10, 10)),
    "alexnet2012": (60_965_224, (256, 6, 6)),
    "alexnet2012_ungrouped": (62_378_344, (256, 6, 6)),
    "alexnet": (61_100_840, (256, 6, 6)),
    "vgg_a": (132_863_336, (512, 7, 7)),
    "vgg_b": (133_047_848, (512, 7, 7)),
    "vgg_c": (133_638_952, (512, 7, 7)),
    "vgg_d": (138_357_544, (512, 7, 7)),
    "vgg_e": (143_667_240, (512, 7, 7)),
    "googlenet2014": (6_998_552, (1024, 7, 7)),
    "googlenet2014_heads": (13_378_280, (1024, 7, 7)),
    "googlenet": (6_624_904, (1024, 7, 7)),
    "googlenet_heads": (13_004_888, (1024, 7, 7)),
    "resnet18": (11_689_512, (512, 7, 7)),
    "resnet34": (21_797_672, (512, 7, 7)),
    "resnet50": (25_557_032, (2048, 7, 7)),
    "resnet101": (44_549_160, (2048, 7, 7)),
    "resnet152": (60_192_808, (2048, 7, 7)),
    "cifar_resnet20": (269_722, (64, 8, 8)),
    "cifar_resnet32": (464_154, (64, 8, 8)),
    "cifar_resnet44": (658_586, (64, 8, 8)),
    "cifar_resnet56": (853_018, (64, 8, 8)),
    "cifar_resnet110": (1_727_962, (64, 8, 8)),
    "densenet121": (7_978_856, (1024, 7, 7)),
    "efficientnet_b0": (5_288_548, (1280, 7, 7)),
    "efficientnet_b1": (7_794_184, (1280, 8, 8)),
    "efficientnet_b2": (9_109_994, (1408, 9, 9)),
    "efficientnet_b3": (12_233_232, (1536, 10, 10)),
}
TORCHVISION = {  # the same names in the state_dict, or the same number of parameters at least
    "alexnet": "alexnet",
    "vgg_a": "vgg11",
    "vgg_b": "vgg13",
    "vgg_d": "vgg16",
    "vgg_e": "vgg19",
    **{name: name for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    "googlenet": "googlenet",
    "googlenet_heads": "googlenet",
    "densenet121": "densenet121",
    **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(4)},
}


def classes(name: str) -> int:
    return 10 if name.startswith(("lenet", "cifar")) else 1000


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return ours.build(name, classes(name))


def torchvision(name: str, **options) -> nn.Module:
    """torchvision's network with random weights."""
    if name.startswith("googlenet"):
        options |= {"aux_logits": name.endswith("heads"), "init_weights": False}
    return getattr(models, TORCHVISION[name])(weights=None, **options)


def logits(net: nn.Module, x: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        return net(x)


def test_the_table_names_every_network() -> None:
    assert set(PUBLISHED) == set(ours.VARIANTS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_count_and_shapes_are_the_published_ones(name: str) -> None:
    net, (count, maps) = on_meta(name), PUBLISHED[name]
    assert ours.census(net)["total"] == count
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    assert ours.stage_shapes(net, ours.input_shape(name))[-2:] == [maps, (classes(name),)]


@pytest.mark.parametrize("name", TORCHVISION)
def test_count_and_stages_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision(name)
    net, shape = on_meta(name), ours.input_shape(name)
    assert ours.census(net) == ours.census(theirs)
    assert [*ours.stage_shapes(net, shape)] == [*ours.stage_shapes(theirs, shape)]
    assert sum(cost.multiply_adds for cost in ours.costs(net, shape)) == sum(
        cost.multiply_adds for cost in ours.costs(theirs, shape)
    )


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_names_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision(name)
    want = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in on_meta(name).state_dict().items()} == want


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[("resnet18", 65), ("resnet34", 64), ("resnet50", 96), ("resnet101", 64)],
        *[("resnet152", 64), ("googlenet", 96), ("densenet121", 64)],
        *[("efficientnet_b0", 64), ("efficientnet_b3", 75)],
    ],
)
def test_torchvisions_weights_give_its_outputs(name: str, size: int) -> None:
    torch.manual_seed(0)
    theirs, net = torchvision(name, num_classes=7), ours.build(name, 7)
    for layer in theirs.modules():  # random statistics: a normalisation left out would show
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, 0, 0.1)
            layer.running_mean = 0.1 * torch.randn(layer.num_features)
            layer.running_var = 0.8 + torch.rand(layer.num_features)
    net.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, size, size)
    torch.testing.assert_close(logits(net, x), logits(theirs, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg_a", "vgg_b", "vgg_d", "vgg_e"])
def test_vggs_convolutions_give_torchvisions_outputs(name: str) -> None:
    torch.manual_seed(0)
    column = name[-1].upper()
    with torch.device("meta"):  # without the linear layers, of half a gigabyte
        theirs = torchvision(name).get_submodule("features")
    theirs = theirs.to_empty(device="cpu")
    for layer in theirs.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    net = ours.vgg_layers(ours.VGG_COLUMNS[column])
    net.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 48)
    torch.testing.assert_close(logits(net, x), logits(theirs, x), rtol=1e-4, atol=1e-6)


def test_a_whole_vgg_takes_torchvisions_weights() -> None:
    torch.manual_seed(0)
    theirs = models.vgg11(weights=None, num_classes=3, init_weights=False)
    with torch.device("meta"):
        net = ours.VGG("A", 3)
    net.load_state_dict(theirs.state_dict(), assign=True)  # no second half gigabyte
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(logits(net, x), logits(theirs, x), rtol=1e-4, atol=1e-6)


def test_googlenet_gives_its_heads_in_training_only() -> None:
    with torch.device("meta"):
        net, x = ours.build("googlenet2014_heads", 5), torch.empty(2, 3, 224, 224)
        main, heads = net.train()(x)
        assert [tuple(part.shape) for part in (main, *heads)] == [(2, 5)] * 3
        assert net.eval()(x).shape == (2, 5)


def test_a_projection_adds_2752_parameters_to_the_cifar_resnet() -> None:
    with torch.device("meta"):
        padded = ours.CifarResNet(20)
        projected = ours.CifarResNet(20, shortcut="projection")
    assert ours.census(projected)["total"] - ours.census(padded)["total"] == 2752


def test_lenet_of_1998_has_60000_parameters() -> None:
    third = sum(25 * len(sees) + 1 for sees in ours.TABLE.split())
    assert third == 1516
    assert 156 + 12 + third + 32 + 48_120 + 10_164 == 60_000


def test_build_names_what_it_knows() -> None:
    with pytest.raises(ValueError, match="no network is called 'resnet19'; known: lenet5, "):
        ours.build("resnet19")


def test_jitter_shifts_and_mirrors_whole_images() -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 3 * 32 * 32 + 1).reshape(1, 3, 32, 32).repeat(200, 1, 1, 1)
    moved, seen = ours.jitter(x), set()
    assert moved.shape == x.shape
    padded = torch.nn.functional.pad(x[0], (4, 4, 4, 4))
    for image in moved:
        centre = int(image[0, 16, 16]) - 1  # the value tells where it came from
        row, column = divmod(centre, 32)
        mirrored = bool(image[0, 16, 17] < image[0, 16, 16])
        left = column - 16 + 4 if not mirrored else column - 15 + 4
        want = padded[:, row - 12 : row + 20, left : left + 32]
        torch.testing.assert_close(image, want.flip(2) if mirrored else want, rtol=0, atol=0)
        seen.add((row - 16, left - 4, mirrored))
    assert {shift for shift, _, _ in seen} == {shift for _, shift, _ in seen} == set(range(-4, 5))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, 32, 32), torch.randint(0, 10, (20,))
    file = tmp_path / "net.pt"
    net = ours.CifarResNet(8, width=2)
    ours.train_cifar(net, x, y, 3, file, every=2)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    again = ours.CifarResNet(8, width=2)
    ours.train_cifar(again, x, y, 3, file, every=2)  # it is finished: nothing is left to do
    assert "going on from step 3" in capsys.readouterr().out
    for key, value in again.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    ours.train_cifar(again, x, y, 4, file, every=2)
    saved = torch.load(file, weights_only=True)
    assert saved["step"] == 4 and saved["schedule"]["last_epoch"] == 4
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "size"),
    [("lenet5", 28), ("cifar_resnet20", 32), ("resnet18", 64), ("efficientnet_b0", 64)],
)
def test_onnxruntime_agrees(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ours.build(name, 10)
    channels = ours.input_shape(name)[0]
    example, check = torch.randn(2, channels, size, size), torch.randn(5, channels, size, size)
    path = tmp_path / f"{name}.onnx"
    difference = ours.onnx_difference(net, example, check, path)
    assert difference < 1e-4
    assert path.stat().st_size > 4 * ours.census(net)["total"]


def test_the_other_blocks_export_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        ours.Inception(3, 4, 2, 4, 2, 4, 4),
        ours.DenseBlock(2, 16, 4),
        ours.Transition(24, 8),
        ours.Bottleneck(8, 2, stride=2, shortcut="pad"),
        nn.Flatten(),
    )
    x = torch.randn(3, 3, 16, 12)
    assert ours.onnx_difference(net, x[:2], x, tmp_path / "blocks.onnx") < 1e-4
