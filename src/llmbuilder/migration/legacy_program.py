"""The program that runs a legacy project's own model, started by `proof` in a process of its own.

It stands alone (nothing of this package is imported), reads a job of plain values and tensors, and writes what the
model computed. `legacy_isolation` hands over to it, when the process has nothing left that it could harm.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_MOST_MISSING = 20
_CONFIGURATION_NAMES = ("config", "conf", "cfg", "args", "params", "hparams", "model_args", "configuration")


class Refused(Exception):
    """Why the project's model could not be run, in words for a person."""


def main(job_path: str) -> None:
    """Run one job; what became of it is in the job's result file."""
    job = json.loads(Path(job_path).read_text("utf-8"))
    result: dict[str, Any] = {}
    import torch

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    inputs = torch.load(job["inputs"], map_location="cpu", weights_only=True)
    try:
        with contextlib.redirect_stdout(sys.stderr), torch.no_grad():
            result |= _run(job, inputs)
    except Refused as error:
        result["error"] = str(error)
    except Exception as error:  # noqa: BLE001 - foreign code can raise anything, and what it raised is the answer
        result["error"] = f"its code ended with {type(error).__name__}: {str(error)[:300]}"
    torch.save(result, job["result"])


def _run(job: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    import torch

    model, name = _load_model(job, inputs["weights"])
    answer = _Caller(model, job["vocab_size"])
    logits, _ = answer(inputs["tokens"], inputs["targets"])
    result: dict[str, Any] = {"program": name, "logits": logits.float(), "loss": None, "greedy": None}
    losses = []
    for tokens, targets in zip(inputs["validation"], inputs["validation_targets"], strict=True):
        logits, own = answer(tokens[None], targets[None])
        losses.append(own if own is not None else _cross_entropy(logits, targets))
    if losses:
        result["loss"] = sum(losses) / len(losses)
    greedy = inputs["prompt"][None]
    for _ in range(job["greedy_tokens"]):
        shown = greedy[:, -job["context"] :]
        following = answer(shown, shown)[0][0, -1].argmax()
        greedy = torch.cat((greedy, following.view(1, 1)), dim=1)
    result["greedy"] = greedy[0, inputs["prompt"].numel() :]
    return result


def _cross_entropy(logits: Any, targets: Any) -> float:
    import torch.nn.functional as F

    return float(F.cross_entropy(logits[0].float(), targets))


class _Caller:
    """A model called so that it returns the logits of every position, whatever its arguments and answer look like."""

    def __init__(self, model: Any, vocab_size: int) -> None:
        self.model, self.vocab_size = model, vocab_size
        parameters = list(inspect.signature(model.forward).parameters.values())
        self.fillers = {
            p.name: 0
            for p in parameters[2:]
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        self.way: Callable[[Any, Any], Any] | None = None

    def __call__(self, tokens: Any, targets: Any) -> tuple[Any, float | None]:
        if self.way is not None:
            return self._read(self.way(tokens, targets), tokens) or self._fail()
        ways: list[Callable[[Any, Any], Any]] = [
            lambda x, y: self.model(x, y, **self.fillers),
            lambda x, y: self.model(x, targets=y, **self.fillers),
            lambda x, y: self.model(x, labels=y, **self.fillers),
            lambda x, y: self.model(x, **self.fillers),
            lambda x, y: self._by_prefixes(x),
        ]
        problems = []
        for way in ways:
            try:
                found = self._read(way(tokens, targets), tokens)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - foreign code can raise anything for arguments it does not take
                problems.append(f"{type(error).__name__}: {str(error)[:300]}")
                continue
            if found is not None:
                self.way = way
                return found
        raise Refused(f"its model does not return logits for tokens ({problems[0] if problems else 'no tensor'})")

    def _fail(self) -> tuple[Any, float | None]:
        raise Refused("its model returns logits for some inputs only")

    def _by_prefixes(self, tokens: Any) -> Any:
        """Ask for every position in its turn, where a model returns the last one's logits only."""
        import torch

        last = []
        for length in range(1, tokens.shape[1] + 1):
            logits = self._tensor(self.model(tokens[:, :length], **self.fillers))
            last.append(logits.reshape(tokens.shape[0], -1, self.vocab_size)[:, -1])
        return torch.stack(last, dim=1)

    def _tensor(self, answer: Any) -> Any:
        import torch

        answer = getattr(answer, "logits", answer)
        parts = answer if isinstance(answer, tuple | list) else [answer]
        return next(p for p in parts if isinstance(p, torch.Tensor) and p.dim() >= 2 and p.shape[-1] == self.vocab_size)

    def _read(self, answer: Any, tokens: Any) -> tuple[Any, float | None] | None:
        import torch

        try:
            logits = self._tensor(answer)
        except StopIteration:
            return None
        if logits.numel() != tokens.numel() * self.vocab_size:
            return None
        parts = list(answer) if isinstance(answer, tuple | list) else [getattr(answer, "loss", None)]
        parts.append(getattr(self.model, "last_loss", None))
        loss = next((float(p) for p in parts if isinstance(p, torch.Tensor) and p.numel() == 1 and p.dim() < 2), None)
        return logits.reshape(*tokens.shape, self.vocab_size), loss


def _load_model(job: dict[str, Any], weights: dict[str, Any]) -> tuple[Any, str]:
    """Return the project's model with the checkpoint in it, and what it is called."""
    import torch

    root, source = Path(job["project"]), Path(job["project"], job["source"])
    sys.path[:0], sys.argv = [str(root), str(source.parent)], [str(source)]
    os.chdir(root)
    module = _import(job, root, source)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == module.__name__
    ]
    if not classes:
        raise Refused(f"{job['source']} defines no model")
    problems = {"it": "none is made with the values that the checkpoint and its tensors tell"}
    classes.reverse()  # the whole model is defined last
    for candidate in sorted(classes, key=lambda c: not c.__name__.lower().startswith(("gpt", "trans"))):
        for arguments in _ways_to_make(candidate, module, job["arguments"], job["declared"]):
            torch.manual_seed(0)
            try:
                model = arguments()
            except Exception as error:  # noqa: BLE001 - a class that is no model is made with other arguments
                problems.setdefault(candidate.__name__, f"{type(error).__name__}: {str(error)[:200]}")
                continue
            reason = _fill(model, weights, set(job["no_weights"]))
            if reason is None:
                missing = sorted(name for name, m in sys.modules.items() if isinstance(m, _MissingModule))
                without = f" (without {', '.join(missing)}, not installed here)" if missing else ""
                return model.eval(), f"{candidate.__name__} of {job['source']}{without}"
            problems[candidate.__name__] = reason
    name, problem = list(problems.items())[min(1, len(problems) - 1)]
    raise Refused(f"no class of {job['source']} takes the checkpoint's weights; {name}: {problem}")


def _fill(model: Any, weights: dict[str, Any], no_weights: set[str]) -> str | None:
    """Put the weights into a model; return why they do not fit, None if every parameter has its own."""
    state = model.state_dict()
    extra = [name for name in weights if name not in state and name not in no_weights]
    if extra:
        return f"it has no {extra[0]}"
    wrong = [n for n, t in weights.items() if n in state and n not in no_weights and t.shape != state[n].shape]
    if wrong:
        return f"its {wrong[0]} has the shape {tuple(state[wrong[0]].shape)}, not {tuple(weights[wrong[0]].shape)}"
    fitting = {n: tensor for n, tensor in weights.items() if n in state and tensor.shape == state[n].shape}
    model.load_state_dict(fitting, strict=False)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    filled = {parameters[name].data_ptr() for name in fitting if name in parameters}
    empty = [name for name, parameter in parameters.items() if parameter.data_ptr() not in filled]
    if empty:
        return f"the checkpoint has no {empty[0]}"
    model.float()
    return None


def _ways_to_make(
    model: type, module: types.ModuleType, arguments: dict[str, Any], declared: dict[str, Any]
) -> Iterator[Callable[[], Any]]:
    """Yield the ways in which a class may be made: with values, or with a configuration that holds them.

    A configuration that may be left out is given all the same: a model of its defaults is another one.
    """
    parameters = {
        name: p
        for name, p in inspect.signature(model.__init__).parameters.items()  # type: ignore[misc]
        if name != "self" and p.kind not in (p.VAR_POSITIONAL,)
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {name: value for name, value in arguments.items() if name in parameters or takes_any}
    required = [name for name, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    optional = [n for n, p in parameters.items() if n not in required and n in _CONFIGURATION_NAMES and not p.default]
    holders = [name for name in [*required, *optional] if name not in arguments]
    if not holders:
        yield lambda: model(**named)
    if len(holders) == 1 and (len(required) == 1 or holders[0] in _CONFIGURATION_NAMES):
        for configuration in _configurations(model, module, parameters[holders[0]].annotation, arguments, declared):
            yield lambda make=configuration: model(**{holders[0]: make(), **named})  # type: ignore[misc]


def _configurations(
    model: type, module: types.ModuleType, annotation: Any, arguments: dict[str, Any], declared: dict[str, Any]
) -> Iterator[Callable[[], Any]]:
    named = [annotation] if isinstance(annotation, type) else [a for a in getattr(annotation, "__args__", ()) if a]
    classes = [c for c in named if isinstance(c, type) and c.__module__ != "builtins" and c is not inspect._empty] or [
        value for name, value in vars(module).items()
        if isinstance(value, type) and name.lower().endswith(("config", "conf", "args", "hparams"))
    ]  # fmt: skip
    own = [c for c in classes if model.__name__.lower() in c.__name__.lower()]
    for configuration in [*own, *(c for c in classes if c not in own)]:
        yield lambda make=configuration: _make_configuration(make, arguments)  # type: ignore[misc]
    if hasattr(model, "get_default_config"):
        yield lambda: _set(model.get_default_config(), {**arguments, "model_type": None})
    for values in (declared, arguments):
        yield lambda values=values: types.SimpleNamespace(**values)  # type: ignore[misc]
        yield lambda values=values: dict(values)  # type: ignore[misc]


def _make_configuration(configuration: Any, arguments: dict[str, Any]) -> Any:
    if isinstance(configuration, type) and dataclasses.is_dataclass(configuration):
        names = {f.name for f in dataclasses.fields(configuration) if f.init}
        return configuration(**{name: value for name, value in arguments.items() if name in names})
    parameters = inspect.signature(configuration).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {name: value for name, value in arguments.items() if name in parameters or takes_any}
    return configuration(**given) if parameters else _set(configuration(), arguments)


def _set(target: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        setattr(target, name, value)
    return target


def _import(job: dict[str, Any], root: Path, source: Path) -> types.ModuleType:
    """Import the model source; what is not installed here is missing only where it is used."""
    for _ in range(_MOST_MISSING):
        try:
            return _import_once(job, root, source)
        except ModuleNotFoundError as error:
            if error.name is None or error.name in sys.modules:
                raise
            _stand_in(error.name)
    raise Refused(f"{source.name} imports too much that is not installed here")


def _stand_in(name: str) -> None:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        part = ".".join(parts[:end])
        if part not in sys.modules:
            sys.modules[part] = _MissingModule(part)


class _Missing:
    """What a library that is not installed would have given: enough to be imported, and never a number."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        is_decorator = len(arguments) == 1 and not options and callable(arguments[0])
        return arguments[0] if is_decorator else _Missing()


class _MissingModule(types.ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing()


def _import_once(job: dict[str, Any], root: Path, source: Path) -> types.ModuleType:
    relative = source.relative_to(root).with_suffix("")
    name = ".".join(relative.parts)
    if not job["does_more_than_define"] and all(part.isidentifier() for part in relative.parts):
        with contextlib.suppress(SystemExit, AttributeError, NameError, OSError):  # it wanted to be run, not imported
            return importlib.import_module(name)
    module = types.ModuleType(name if name.isidentifier() else "legacy_model")
    module.__file__, module.__package__ = str(source), ".".join(relative.parts[:-1])
    sys.modules[module.__name__] = module
    definitions = ast.parse(job["definitions"])
    for node in [node for node in definitions.body if isinstance(node, ast.Import | ast.ImportFrom)]:
        _import_alone(node, module, source)
    exec(compile(definitions, str(source), "exec"), module.__dict__)
    return module


def _import_alone(node: ast.Import | ast.ImportFrom, module: types.ModuleType, source: Path) -> None:
    """Run one import of a file that is cut down; what cannot be imported is missing, and the import is taken out."""
    try:
        exec(compile(ast.Module(body=[node], type_ignores=[]), str(source), "exec"), module.__dict__)
    except ModuleNotFoundError:
        raise
    except Exception:  # noqa: BLE001 - a module that loads data or asks the network when it is imported
        for alias in node.names:
            module.__dict__[(alias.asname or alias.name).split(".")[0]] = _Missing()
        node.names = [ast.alias(name="version", asname="_left_out")]
        if isinstance(node, ast.ImportFrom):
            node.module, node.level = "sys", 0
        else:
            node.names = [ast.alias(name="sys", asname="_left_out")]
        ast.fix_missing_locations(node)
