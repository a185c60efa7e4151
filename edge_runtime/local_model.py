"""LocalModel: a bundle on this device; its best variant chosen, opened and bound to its task.

Chooses by `engines.select` and reads settings of nobody: whoever opens a model says what it wants.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from device_profiles.loader import load_profile
from edge_runtime.archive import ZIP, open_any_bundle
from edge_runtime.bundle import ModelBundle, shipped_bundle, wrap_model
from edge_runtime.contract.bundle import Variant
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.contract.result import Classification, Detections, Embedding
from edge_runtime.contract.task import GenerationSpec, TaskSpec, TextSpec
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.decoder import DECODERS, open_decoder
from edge_runtime.engines.machine import detect_profile
from edge_runtime.engines.registry import DEFAULT_PROVIDER, ENGINES, FORMATS, load_engine
from edge_runtime.engines.select import Choice, rank
from edge_runtime.engines.tuning import tuned_first
from edge_runtime.predict import WINDOWS_AT_ONCE, GenerationPredictor, Predictor, ValuePredictor
from edge_runtime.tasks.generation.task import GenerationTask
from edge_runtime.tasks.make import make_any_task, make_task, require_tokenizer
from edge_runtime.tasks.sample_input import sample_input


@dataclass(frozen=True, slots=True)
class LocalModel:
    """An opened model.

    Args:
        bundle: Where it came from.
        choices: What was considered, best first, the unusable last.
        choice: What was opened.
        session: The engine's side; close it through `predictor`.
        predictor: Pictures in, answers out.
    """

    bundle: ModelBundle
    choices: tuple[Choice, ...]
    choice: Choice
    session: Session
    predictor: Predictor[Detections | Classification | Embedding]


@dataclass(frozen=True, slots=True)
class AnyModel:
    """An opened model of any kind.

    Args:
        bundle: Where it came from.
        choices: What was considered, best first, the unusable last.
        choice: What was opened.
        spec: The task as this variant has it.
        session: The engine's side; close it through `predictor`.
        predictor: A picture, a text or tensors in, answers out; for a model that generates: a prompt in, and
            text out in pieces, too.
    """

    bundle: ModelBundle
    choices: tuple[Choice, ...]
    choice: Choice
    spec: TaskSpec
    session: Session
    predictor: ValuePredictor | GenerationPredictor


def find_bundle(name: str, task: TaskSpec | None = None) -> ModelBundle:
    """Open what a person named: a shipped bundle, a bundle's folder or `.zip`, or a bare file with its task.

    Raises:
        BundleError: There is no such thing, it is damaged, or a bare file came without its task.
    """
    path = shipped_bundle(name) or Path(name)
    if task is not None:
        return wrap_model(path, task)
    if path.is_file() and path.suffix.lower() not in {ZIP, ".json"}:
        raise BundleError(
            f"model {path}", expected="its task", got="a bare file", do="Say what it does: --task task.yaml"
        )
    return open_any_bundle(path)


def choices_here(
    bundle: ModelBundle, profile: DeviceProfile, engine: str | None = None
) -> tuple[Choice, ...]:
    """Rank a bundle's variants on the engines installed here.

    Args:
        bundle: The model.
        profile: This device.
        engine: Only this one; None: all.

    Raises:
        ConfigError: No engine has that name, or the one that has does not generate and the model does.
    """
    formats = {variant.format for variant in bundle.manifest.variants}
    fit = DECODERS if isinstance(bundle.manifest.task, GenerationSpec) else ENGINES
    if engine in ENGINES and engine not in fit:
        raise ConfigError("engine", expected=f"one that generates: {', '.join(fit)}", got=engine)
    # An engine that is asked loads its vendor's library: some 100 MB for nothing where it takes no variant.
    names = [name for name in fit if formats & set(FORMATS[name])] if engine is None else [engine]
    available = {name: _providers(name) for name in names}
    manifest = bundle.manifest
    ranked = rank(manifest.variants, manifest.receipts, profile, available)
    return tuned_first(ranked, profile.tuned_for(manifest.name, manifest.version))


def open_choice(bundle: ModelBundle, choice: Choice, options: EngineOptions) -> Session:
    """Open one choice.

    Args:
        bundle: The model.
        choice: One of `choices_here`.
        options: How; without providers, the choice's own is taken.

    Raises:
        BundleError: The file is not what it should be.
        EngineError: The engine or the provider does not run it.
    """
    variant = variant_of(bundle, choice)
    if variant.half_precision:
        options = replace(options, half_precision=True)
    return load_engine(choice.engine).open(bundle.path(variant), options=options_for(choice, options))


def options_for(choice: Choice, options: EngineOptions) -> EngineOptions:
    """Give the options a choice is opened with: its own provider, where they name none."""
    if options.providers or choice.provider == DEFAULT_PROVIDER[choice.engine]:
        return options
    return replace(options, providers=(choice.provider,))


def open_model(
    bundle: ModelBundle,
    profile: DeviceProfile,
    options: EngineOptions | None = None,
    *,
    engine: str | None = None,
    min_score: float | None = None,
    keep: Collection[str] = (),
) -> LocalModel:
    """Choose the best variant and engine for this device, open it, and bind it to its task.

    Args:
        bundle: The model.
        profile: This device.
        options: Threads, providers, fallback, cache.
        engine: Only this engine; None: the best one.
        min_score: Answers below are left out; None: as the task declares.
        keep: Labels of interest of a detector; empty: all.

    Raises:
        BundleError: File, shapes and task do not belong together.
        ConfigError: No engine has that name, or a label to keep is none of the model's.
        EngineError: No variant can run here, or the chosen one does not.
    """
    choices = choices_here(bundle, profile, engine)
    choice = choices[0]
    if not choice.usable:
        raise nothing_runs(bundle, choices)
    session = open_choice(bundle, choice, options or EngineOptions())
    try:
        spec = bundle.manifest.task_of(variant_of(bundle, choice))
        task = make_task(spec, session.inputs, session.outputs, min_score=min_score, keep=keep)
    except Exception:
        session.close()
        raise
    return LocalModel(bundle, choices, choice, session, Predictor(task, session))


def open_any_model(
    bundle: ModelBundle,
    profile: DeviceProfile,
    options: EngineOptions | None = None,
    *,
    engine: str | None = None,
    min_score: float | None = None,
) -> AnyModel:
    """Choose the best variant and engine for this device, open it, and bind it to its task, whatever it is.

    Args:
        bundle: The model.
        profile: This device.
        options: Threads, providers, fallback, cache.
        engine: Only this engine; None: the best one.
        min_score: Answers of a vision model below are left out; None: as the task declares.

    Raises:
        BundleError: File, shapes, tokenizer and task do not belong together.
        ConfigError: No engine has that name, or it does not generate and the model does.
        EngineError: No variant can run here, the chosen one does not, or a text model's library is missing.
        InputError: The bundle's golden inputs cannot be read.
    """
    choices = choices_here(bundle, profile, engine)
    choice = choices[0]
    if not choice.usable:
        raise nothing_runs(bundle, choices)
    return open_any_choice(bundle, choices, choice, options or EngineOptions(), min_score=min_score)


def open_any_choice(
    bundle: ModelBundle,
    choices: tuple[Choice, ...],
    choice: Choice,
    options: EngineOptions,
    *,
    min_score: float | None = None,
) -> AnyModel:
    """Open one choice and bind it to its task; see `open_any_model`.

    Args:
        bundle: The model.
        choices: Of `choices_here`.
        choice: One of them.
        options: How; without providers, the choice's own is taken.
        min_score: Answers of a vision model below are left out; None: as the task declares.

    Raises:
        EdgeRuntimeError: As `open_any_model`.
    """
    spec, tokenizer = bundle.manifest.task_of(variant_of(bundle, choice)), tokenizer_of(bundle)
    golden = bundle.manifest.golden
    first = None if golden is None else bundle.root / golden.inputs.path
    if isinstance(spec, GenerationSpec):
        task = GenerationTask(spec, require_tokenizer(tokenizer))
        model = bundle.path(variant_of(bundle, choice))
        decoder = open_decoder(choice.engine, model, options_for(choice, options))
        generator = GenerationPredictor(task, decoder, sample_input(spec, decoder.inputs, first))
        return AnyModel(bundle, choices, choice, spec, decoder, generator)
    session = open_choice(bundle, choice, options)
    try:
        bound = make_any_task(spec, session.inputs, session.outputs, tokenizer, min_score=min_score)
        sample = sample_input(spec, session.inputs, first)
    except Exception:
        session.close()
        raise
    rows = WINDOWS_AT_ONCE if isinstance(spec, TextSpec) else None
    return AnyModel(bundle, choices, choice, spec, session, ValuePredictor(bound, session, sample, rows))


def nothing_runs(bundle: ModelBundle, choices: Iterable[Choice]) -> EngineError:
    """Make the error for a model that no engine here can run, with every reason."""
    reasons = "; ".join(
        f"{' on '.join(filter(None, (one.variant, one.engine)))}: {one.why}" for one in choices
    )
    return EngineError(f"model '{bundle.manifest.name}': nothing here can run it: {reasons}")


def variant_of(bundle: ModelBundle, choice: Choice) -> Variant:
    """Give the variant a choice is about."""
    return next(variant for variant in bundle.manifest.variants if variant.id == choice.variant)


def tokenizer_of(bundle: ModelBundle) -> Path | None:
    """Give the place of a bundle's `tokenizer.json`; None where it has none."""
    found = bundle.manifest.tokenizer
    return None if found is None else bundle.root / found.path


def _providers(name: str) -> tuple[str, ...] | str:
    engine = load_engine(name)
    return engine.available() or engine.providers()


def this_device(profile: str) -> DeviceProfile:
    """Give the profile that settings name.

    Args:
        profile: A profile's name, the path of one, or `auto`: look at this machine.

    Raises:
        ConfigError: There is none of that name, or the file is wrong.
    """
    return _this_machine() if profile == "auto" else load_profile(profile)


@cache
def _this_machine() -> DeviceProfile:
    """Look once a process: the machine does not change. Which engines run here, `choices_here` asks them."""
    return detect_profile(try_engines=False)
