"""What the published CIFAR files are called, how many images each holds, and their digests.

Source: https://www.cs.toronto.edu/~kriz/cifar.html (names, MD5 sums of the archives), the data sets' own
lists (MD5 sums of the files in the Python archives).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rolewise.data.split import Channels

URL = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class File:
    """One file with images: its name, how many it holds, and the digest of the file (hex)."""

    name: str
    rows: int
    digest: str


@dataclass(frozen=True)
class Form:
    """One published form of a data set: an archive, and the folder of files that it unpacks to.

    The files' digests are the published MD5 sums for the Python form. For unpacked binary files none are
    published; theirs are the SHA-256 sums of the records (label bytes and pixels, image after image) that the
    verified Python form gives, and such a file holds nothing else.
    """

    kind: Literal["binary", "python"]
    folder: str
    archive: str
    archive_md5: str
    train: tuple[File, ...]
    test: File

    @property
    def files(self) -> tuple[File, ...]:
        """Those with training images, in order, then the one with test images."""
        return (*self.train, self.test)

    @property
    def digest_kind(self) -> Literal["md5", "sha256"]:
        """How the unpacked files are verified."""
        return "md5" if self.kind == "python" else "sha256"


@dataclass(frozen=True)
class Cifar:
    """A CIFAR data set: its forms in order of preference, its classes, and the constants that normalize it.

    Args:
        name: name that a person types.
        title: name in running text.
        label_key: key of the labels in the Python form.
        label_bytes: label bytes of one image in the binary form; the last of them is the class.
        constants: published (mean, std) by number of training images; the whole part's and the reduced
            part's.
    """

    name: str
    title: str
    forms: tuple[Form, Form]
    classes: tuple[str, ...]
    label_key: str
    label_bytes: int
    constants: Mapping[int, tuple[Channels, Channels]]


_CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    forms=(
        Form(
            kind="binary",
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
            train=(
                File(
                    "data_batch_1.bin",
                    10000,
                    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                ),
                File(
                    "data_batch_2.bin",
                    10000,
                    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                ),
                File(
                    "data_batch_3.bin",
                    10000,
                    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                ),
                File(
                    "data_batch_4.bin",
                    10000,
                    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                ),
                File(
                    "data_batch_5.bin",
                    10000,
                    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                ),
            ),
            test=File(
                "test_batch.bin", 10000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
            ),
        ),
        Form(
            kind="python",
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            archive_md5="c58f30108f718f92721af3b95e74349a",
            train=(
                File("data_batch_1", 10000, "c99cafc152244af753f735de768cd75f"),
                File("data_batch_2", 10000, "d4bba439e000b95fd0a9bffe97cbabec"),
                File("data_batch_3", 10000, "54ebc095f3ab1f0389bbae665268c751"),
                File("data_batch_4", 10000, "634d18415352ddfa80567beed471001a"),
                File("data_batch_5", 10000, "482c414d41f54cd18b22e5b47cb7c3cb"),
            ),
            test=File("test_batch", 10000, "40351d587109b95175f43aff81a1287e"),
        ),
    ),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    label_key="labels",
    label_bytes=1,
    constants={
        50000: ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
        4000: ((0.49056774, 0.48116026, 0.44726052), (0.24710728, 0.24451308, 0.26235099)),
    },
)

_FINE_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
    seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
    tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
    worm
"""

_CIFAR100_CONSTANTS = ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047))

_CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    forms=(
        Form(
            kind="binary",
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            archive_md5="03b5dce01913d631647c71ecec9e9cb8",
            train=(
                File("train.bin", 50000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
            ),
            test=File("test.bin", 10000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
        ),
        Form(
            kind="python",
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
            train=(File("train", 50000, "16019d7e3df5f24257cddd939b257f8d"),),
            test=File("test", 10000, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        ),
    ),
    classes=tuple(_FINE_CLASSES.split()),
    label_key="fine_labels",
    label_bytes=2,
    # The published settings normalize the 4,000 images of a search with the constants of all 50,000.
    constants={50000: _CIFAR100_CONSTANTS, 4000: _CIFAR100_CONSTANTS},
)

CIFAR: Mapping[str, Cifar] = {spec.name: spec for spec in (_CIFAR10, _CIFAR100)}
