"""What BoTorch and Optuna evaluate in the comparison of benches/fronts.rs.

    cargo bench --bench fronts -- --export tables
    python benches/peers/fronts.py tables peers_trials --seeds 20
    cargo bench --bench fronts -- --trials peers_trials

needs numpy, torch, botorch 0.18.1 and optuna 5.0.0. Every method starts from the same ten points and sees the same noise.
The objectives are the score and the number of layers of attention, as two outcomes of which nothing else is known.
Files that are there already are kept, so that a run that was stopped goes on.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
TRIALS = 100


class Task:
    """A landscape as a table; sequence number n has layer i as bit i, the first the highest, attention as 0."""

    def __init__(self, folder, name, seed):
        self.scores = np.fromfile(folder / f"{name}.f64", "<f8")
        self.layers = int(np.log2(len(self.scores)))
        self.noise = [float(x) for x in (folder / "noise").read_text().splitlines()[seed].split()]
        self.first = [int(x) for x in (folder / f"{name}.first").read_text().splitlines()[seed].split()]
        self.seen = []

    def bits(self, index):
        return [(index >> (self.layers - 1 - i)) & 1 for i in range(self.layers)]

    def index(self, bits):
        return int("".join(str(int(round(float(bit)))) for bit in bits), 2)

    def evaluate(self, index):
        """Score with noise, and minus the cost: both to be maximised."""
        value = self.scores[index] + self.noise[len(self.seen)]
        self.seen.append(index)
        return float(value), -float(self.layers - sum(self.bits(index)))


def botorch(task, seed):
    """qLogNEHVI with an independent SingleTaskGP per objective and discrete local search, as BoTorch's tutorials do."""
    import torch
    from botorch import fit_gpytorch_mll
    from botorch.acquisition.multi_objective import logei
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf_discrete_local_search
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.hypervolume import infer_reference_point
    from botorch.utils.multi_objective.pareto import is_non_dominated
    from gpytorch.mlls import SumMarginalLogLikelihood

    logei._load_attempted = True  # no compiler is asked for
    torch.set_default_dtype(torch.double)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    y = [task.evaluate(index) for index in task.first]
    choices = [torch.tensor([0.0, 1.0])] * task.layers
    while len(task.seen) < TRIALS:
        x = torch.tensor([task.bits(index) for index in task.seen], dtype=torch.double)
        outcomes = torch.tensor(y)
        models = [SingleTaskGP(x, outcomes[:, k:k + 1], outcome_transform=Standardize(1)) for k in range(2)]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        front = outcomes[is_non_dominated(outcomes)]
        function = logei.qLogNoisyExpectedHypervolumeImprovement(
            model, infer_reference_point(front), x, prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([128]), seed=seed * 1000 + len(task.seen)),
        )
        with torch.no_grad():
            found, _ = optimize_acqf_discrete_local_search(
                function, q=1, discrete_choices=choices, X_avoid=x, num_restarts=6, raw_samples=128, max_batch_size=256,
            )
        y.append(task.evaluate(task.index(found[0])))


def optuna(task, seed, sampler):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler(seed))
    for index in task.first:
        study.enqueue_trial({f"x{i}": bit for i, bit in enumerate(task.bits(index))})
    for _ in range(TRIALS):
        trial = study.ask()
        bits = [trial.suggest_categorical(f"x{i}", [0, 1]) for i in range(task.layers)]
        study.tell(trial, task.evaluate(task.index(bits)))


def nsga2(task, seed):
    from optuna.samplers import NSGAIISampler

    optuna(task, seed, lambda seed: NSGAIISampler(population_size=20, seed=seed))


def tpe(task, seed):
    from optuna.samplers import TPESampler

    optuna(task, seed, lambda seed: TPESampler(seed=seed, multivariate=True, group=False))


METHODS = {"optuna_nsga2": nsga2, "optuna_tpe": tpe, "botorch_q_log_nehvi": botorch}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", type=pathlib.Path)
    parser.add_argument("trials", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    options = parser.parse_args()
    names = sorted(path.stem for path in options.tables.glob("*.f64"))
    for method in options.methods:
        for seed in range(options.seeds):
            for name in names:
                path = options.trials / method / f"{name}-{seed}.txt"
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                task = Task(options.tables, name, seed)
                clock = time.time()
                METHODS[method](task, seed)
                path.write_text("\n".join(map(str, task.seen)))
                print(f"{method} {name} {seed}: {(time.time() - clock) / TRIALS:.2f} s per trial", flush=True)


main()
