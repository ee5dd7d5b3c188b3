"""What a training in Python needs to evaluate trials of composer-nas. One file, no dependencies: copy it beside your code.

    import composer_nas

    def evaluate(trial):
        for step in range(1, 101):
            ...                                           # train a model with the layers trial.letters
            trial.progress(step, 100, loss)               # may end the process here, if the trial is hopeless
        return {"loss": loss}

    composer_nas.run(evaluate)

is a whole program: `search --evaluator "python train.py" --score loss --minimize` starts it for every trial.
`Session` is the other way round: your program owns the loop, and asks a search what to evaluate next.
docs/protocol.md describes the files and lines behind both, so that other languages can do the same.
"""

import json
import math
import os
import subprocess
import sys
import traceback

FORMAT = 1
"""The version of the specification that this file knows."""

INFEASIBLE, TRANSIENT, FATAL = 65, 75, 78
"""Exit codes with a meaning; any other code but 0 is transient."""


class Infeasible(Exception):
    """This architecture cannot be evaluated: the trial is recorded as failed, and the search goes on."""


class Transient(Exception):
    """Something passing went wrong: the trial is tried again, up to a limit."""


class Fatal(Exception):
    """No trial can be evaluated: the search stops, and nothing that is finished is lost."""


class Trial:
    """One trial: `spec` is the whole specification, and its entries are attributes, such as `trial.letters`."""

    def __init__(self, spec, answers=None):
        if spec.get("format") != FORMAT:
            raise Fatal(
                f"the specification has format {spec.get('format')!r}, composer_nas.py knows {FORMAT}: "
                "copy the file of the same version as the search"
            )
        self.spec = spec
        self._answers = answers if answers is not None else sys.stdout

    def __getattr__(self, name):
        try:
            return self.__dict__["spec"][name]
        except KeyError:
            raise AttributeError(name) from None

    def progress(self, step, steps, value=None, stage=""):
        """Says that `step` of `steps` are done, and with which score so far; trials are stopped early by that."""
        told = {"step": int(step), "steps": int(steps), "stage": stage}
        if value is not None:
            told["value"] = _number(value)
        self._say({"progress": told})

    def metrics(self, **numbers):
        """Numbers for the record, by name; the last of each name counts."""
        self._say({"metrics": _numbers(numbers)})

    def file(self, name):
        """The path of a file for checkpoints: later attempts at the same trial find it."""
        return os.path.join(self.checkpoint, name)

    def _say(self, answer):
        # One write per line, so that lines of several threads do not mix.
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def _number(number):
    """The number, or None where JSON has none for it."""
    return float(number) if math.isfinite(number) else None


def _numbers(numbers):
    return {name: _number(number) for name, number in numbers.items()}


def keep(path, write):
    """Writes a file that is whole or absent, whenever the process dies: `keep(trial.file("state"), lambda part: ...)`."""
    part = f"{path}.part"
    write(part)
    os.replace(part, path)


def run(evaluate):
    """Evaluates the trial that the command line names, and ends the process.

    `evaluate(trial)` returns the scores by name, as a dictionary, or `(scores, more)` where `more` may have
    `standard_error`, `parameters` and `train_flops`. What it prints goes to the log, not to the search.
    """
    # Whatever else prints to the standard output must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        if len(sys.argv) < 2:
            raise Fatal("the path of a specification is missing: this program is started by a search")
        with open(sys.argv[-1], encoding="utf-8") as file:
            trial = Trial(json.load(file), answers)
        scores = evaluate(trial)
        scores, more = scores if isinstance(scores, tuple) else (scores, {})
        trial._say({"result": {"scores": _numbers(scores), **more}})
    except (Infeasible, Transient, Fatal) as error:
        kind = type(error).__name__.lower()
        answers.write(json.dumps({"error": {"kind": kind, "reason": str(error)}}) + "\n")
        answers.flush()
        sys.exit({"infeasible": INFEASIBLE, "transient": TRANSIENT, "fatal": FATAL}[kind])
    except BrokenPipeError:
        sys.exit(TRANSIENT)  # the search is gone
    except Exception:
        traceback.print_exc()
        sys.exit(1)  # tried again, up to a limit: the last lines of the traceback are in the journal


class Session:
    """A search whose loop is yours.

        with Session(["session", "--journal", "runs/mine/journal.jsonl", "--score", "loss", "--minimize"]) as session:
            while (trial := session.ask()) is not None:
                session.tell(trial["trial"], {"loss": train(trial["letters"])})

    Everything is in the journal before it counts; the same lines again go on where the last session stopped.
    """

    def __init__(self, command):
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.setup = self._answer()

    def request(self, request):
        """Sends a request and returns its answer, both as docs/protocol.md has them."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words say why
        return self._answer()

    def ask(self):
        """The next trial, as a dictionary; None where the space is exhausted. RuntimeError where outcomes are due."""
        answer = self.request({"ask": {}})
        if "wait" in answer:
            raise RuntimeError("tell the outcome of a trial first: the searcher waits for it")
        return answer.get("trial")

    def tell(self, trial, scores=None, *, error=None, reason="", **more):
        """Tells scores by name, or an error (infeasible or transient); returns what became of the trial."""
        result = {"scores": _numbers(scores or {}), **more}
        outcome = {"error": {"kind": error, "reason": reason}} if error else {"result": result}
        return self.request({"tell": {"trial": trial, **outcome}})["told"]

    def best(self):
        """The best trial so far, or None."""
        return self.request({"best": {}})["best"]

    def aggregate(self):
        """The best trials as one architecture, and at the size of --target."""
        return self.request({"aggregate": {}})["aggregated"]

    def close(self):
        """Ends the session; what was told is in the journal."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the session has ended with exit code {self._process.wait()}: see its standard error")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
