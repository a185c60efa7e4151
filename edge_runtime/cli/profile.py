"""`edge-runtime profile`: list, show and detect device profiles. Decides nothing about engines."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from device_profiles.loader import load_profile, profile_names
from edge_runtime.cli.shell import console, print_json
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.engines.machine import detect_profile, write_profile


def list_profiles(*, as_json: bool) -> None:
    """Print the shipped profiles."""
    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        print_json([{"name": profile.name, "title": profile.title} for profile in profiles])
        return
    table = Table("profile", "what it is", "cores", "memory", "engines", box=None, pad_edge=False)
    for profile in profiles:
        engines = ", ".join(support.engine for support in profile.engines)
        table.add_row(profile.name, profile.title, str(profile.cpu.cores), gib(profile.memory_bytes), engines)
    console().print(table)


def show_profile(name: str, *, as_json: bool) -> None:
    """Print one profile.

    Raises:
        ConfigError: There is none of this name.
    """
    profile = load_profile(name)
    if as_json:
        print_json(profile)
    else:
        console().print(profile_table(profile))


def detect(out: Path | None, *, as_json: bool) -> None:
    """Look at this machine and print what was found; write it as YAML when asked to.

    Raises:
        StorageError: The file cannot be written.
    """
    screen = console(as_json=as_json)
    with screen.status("Looking at this machine …"):
        profile = detect_profile()
    if as_json:
        print_json(profile)
    else:
        screen.print(profile_table(profile))
    if out is not None:
        write_profile(profile, out)
        screen.print(f"Written to {out}; name it in store.yaml: [bold]profile: {out}[/]", soft_wrap=True)


def profile_table(profile: DeviceProfile) -> Table:
    """Lay a profile out for a person."""
    table = Table(title=f"{profile.name}: {profile.title}", show_header=False, box=None, pad_edge=False)
    table.title_justify = "left"
    cpu = profile.cpu
    table.add_row("processor", f"{cpu.name} ({cpu.arch}), {cpu.cores} cores, {cpu.threads} threads")
    table.add_row("features", ", ".join(cpu.features) or "-")
    table.add_row("memory", f"{gib(profile.memory_bytes)}, budget {gib(profile.memory_budget_bytes)}")
    for accelerator in profile.accelerators:
        table.add_row(accelerator.kind, accelerator.name)
    for support in profile.engines:
        takes = f"{', '.join(support.formats)}; {', '.join(support.precisions)}"
        runs = f"; {', '.join(support.providers)}" if support.providers else ""
        table.add_row("engine", f"{support.engine}: {takes}{runs}")
    for fact in profile.facts:
        table.add_row("source", f"{escape(fact.says)} [dim]({escape(fact.source)})[/]")
    return table


def gib(size_bytes: int) -> str:
    """Write a size for a person: `7.8 GiB`."""
    return f"{size_bytes / 2**30:.1f} GiB"
