//! Trainings of equal networks as one.

use std::{collections::VecDeque, ops::ControlFlow};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};

use super::{
    AdamW, DataError, Evaluation, Outcome, Point, Predictions, TokenBatch, TrainConfig, TrainError, Trained,
    TrainerProgress,
    clip::{clipping_factor, global_norm},
    gradients::{self, Gradients},
    optimizer::{Tracking, members_of},
    predict::predict_parts,
    window::Window,
};
use crate::model::Network;

/// `R` networks of equal shape as one network.
///
/// Every parameter holds those of the members one after the other along its first axis, and every batch holds their
/// sequences one after the other. The network must keep them apart, as
/// [`HybridLm::can_ensemble`](crate::model::HybridLm) says.
#[derive(Clone, Debug)]
pub(crate) struct Ensemble<N> {
    network: N,
    members: usize,
}

impl<N: Network> Ensemble<N> {
    /// Joins networks of equal shape, or returns `None` if there are none.
    fn new(networks: Vec<N>) -> Option<Self> {
        let members = networks.len();
        Some(Self { network: joined(networks)?, members })
    }

    /// Returns the ensemble of these members alone, in this order.
    fn keep(self, members: &[usize]) -> Self {
        let network = self.network.map(&mut Keep { members, count: self.members });
        Self { network, members: members.len() }
    }

    /// Returns the number of token ids of a member.
    fn vocab_size(&self) -> usize {
        self.network.vocab_size() / self.members
    }

    /// Joins batches of equal shape, one per member. The token ids of a member follow those of the members before it.
    fn batch<'a>(&self, batches: impl IntoIterator<Item = &'a TokenBatch>) -> TokenBatch {
        let vocab_size = self.vocab_size() as i32;
        let mut joined = TokenBatch::default();
        for (member, batch) in (0..).zip(batches) {
            joined.batch += batch.batch;
            joined.seq = batch.seq;
            joined.inputs.extend(batch.inputs.iter().map(|token| token + member * vocab_size));
            joined.targets.extend(&batch.targets);
        }
        joined
    }

    /// Evaluates every member on the same batches without gradients. Returns one result per member and batch.
    ///
    /// # Errors
    /// Returns a [`TrainError`] if a batch does not fit the members or the device fails.
    pub(crate) fn predict(&self, batches: &[TokenBatch]) -> Result<Vec<Vec<Predictions>>, TrainError> {
        batches.iter().try_for_each(|batch| batch.validate(self.vocab_size()))?;
        let joined = batches.iter().map(|batch| self.batch(std::iter::repeat_n(batch, self.members)));
        let by_batch = predict_parts(&self.network, &joined.collect::<Vec<_>>(), self.members)?;
        let mut by_member = vec![Vec::new(); self.members];
        for of_members in by_batch {
            by_member.iter_mut().zip(of_members).for_each(|(of_member, prediction)| of_member.push(prediction));
        }
        Ok(by_member)
    }
}

/// Measures the members of an ensemble, in order.
pub(crate) type Evaluate<'a, N> = dyn FnMut(&Ensemble<N>) -> Result<Vec<Evaluation>, TrainError> + 'a;

/// Trains networks of equal shape as one, each on its own data. The result is that of [`train`](super::train) for each
/// of them, up to rounding; where the kernels for `flex` are used, it is the same to the bit. The weights of a diverged
/// network are those after the update.
///
/// - `data` returns the batch of a network, counted from 0, for a step, counted from 0.
/// - `evaluate` measures the networks that are still being trained, in order.
/// - `progress` receives the number of steps after each reading of the losses, and can cancel all trainings.
///
/// A network whose training ends leaves the ensemble. Auxiliary losses are not part of the loss.
///
/// # Errors
/// As [`train`](super::train), for all networks together.
pub(crate) fn train_ensemble<N: Network>(
    networks: Vec<N>,
    config: &TrainConfig,
    data: &mut dyn FnMut(usize, usize) -> Result<TokenBatch, DataError>,
    evaluate: &mut Evaluate<N>,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Trained<N>>, TrainError> {
    config.validate()?;
    let Some(mut trainings) = Trainings::new(networks, config)? else { return Ok(Vec::new()) };
    for index in 0..config.steps {
        let batches = trainings.members.iter().map(|member| data(member.index, index)).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(|source| TrainError::Data { step: index, source })?;
        trainings = trainings.step(config, &batches)?;
        let step = index + 1;
        if config.looks_at(step) {
            trainings.read(step)?;
            if progress(step).is_break() {
                let cancelled = Outcome::Cancelled { step };
                trainings.members.iter_mut().for_each(|member| member.outcome = member.outcome.or(Some(cancelled)));
            }
            trainings.leave();
        }
        if config.evaluates_after(step) && !trainings.members.is_empty() {
            let evaluations = evaluate(&trainings.valid())?;
            for (member, evaluation) in trainings.members.iter_mut().zip(evaluations) {
                let (point, outcome) = member.done.evaluated(evaluation, config.stop_above);
                member.history.extend(point);
                member.outcome = outcome.or((step == config.steps).then_some(Outcome::Finished));
            }
            trainings.leave();
        }
        if trainings.members.is_empty() {
            break;
        }
    }
    Ok(trainings.finished())
}

/// The running trainings, and the results of those that have ended.
struct Trainings<N> {
    /// The networks of `members`, or of none.
    ensemble: Ensemble<N>,
    device: Device,
    optimizer: AdamW,
    window: Window,
    members: Vec<Member>,
    ended: Vec<(usize, Trained<N>)>,
}

/// One training of an ensemble.
struct Member {
    /// Its place among all trainings.
    index: usize,
    done: TrainerProgress,
    history: Vec<Point>,
    /// How it ended.
    outcome: Option<Outcome>,
}

impl<N: Network> Trainings<N> {
    fn new(networks: Vec<N>, config: &TrainConfig) -> Result<Option<Self>, TrainError> {
        let new = |index| Member { index, done: TrainerProgress::default(), history: Vec::new(), outcome: None };
        let members = (0..networks.len()).map(new).collect();
        let Some(Ensemble { network, members: count }) = Ensemble::new(networks) else { return Ok(None) };
        let device = network.devices().into_iter().next().ok_or(TrainError::NoParameters)?.without_autodiff();
        let network = gradients::recomputing(network.train(), config.recompute);
        Ok(Some(Self {
            ensemble: Ensemble { network, members: count },
            device,
            optimizer: config.optimizer.init(),
            window: Window::default(),
            members,
            ended: Vec::new(),
        }))
    }

    /// Updates the weights of every member once.
    fn step(mut self, config: &TrainConfig, batches: &[TokenBatch]) -> Result<Self, TrainError> {
        let index = self.members.first().map_or(0, |member| member.done.steps);
        let fits = |batch: &TokenBatch| batch.validate(self.ensemble.vocab_size());
        batches.iter().try_for_each(fits).map_err(|source| TrainError::Batch { step: index, source })?;
        let batch = self.ensemble.batch(batches);
        let Ensemble { network, members } = self.ensemble;
        let Gradients { gradients, loss } = gradients::of_members(&network, members, config, &batch, &self.device);
        let norms = global_norm(&network, &gradients, members);
        let factors = config.clip_norm.zip(norms.as_ref()).map(|(max_norm, norms)| clipping_factor(norms, max_norm));
        self.window.add(loss, norms);
        let rate = config.schedule.at(index);
        let network = self.optimizer.step_clipped(rate, network, gradients, factors);
        self.members.iter_mut().for_each(|member| member.done.steps += 1);
        Ok(Self { ensemble: Ensemble { network, members }, ..self })
    }

    /// Reads the losses since the last reading, and ends the trainings that have diverged.
    fn read(&mut self, step: usize) -> Result<(), TrainError> {
        for (member, sums) in self.members.iter_mut().zip(self.window.take()?) {
            member.done.add(sums);
            member.outcome = sums.diverged().map(|reason| Outcome::Diverged { step, reason });
        }
        Ok(())
    }

    /// Returns the ensemble of the running trainings, without autodiff.
    fn valid(&self) -> Ensemble<N> {
        Ensemble { network: self.ensemble.network.valid(), members: self.ensemble.members }
    }

    /// Takes the members whose trainings have ended out of the ensemble.
    fn leave(&mut self) {
        let count = self.members.len();
        let mut staying = Vec::new();
        for (place, member) in std::mem::take(&mut self.members).into_iter().enumerate() {
            match member.outcome {
                None => {
                    staying.push(place);
                    self.members.push(member);
                }
                Some(outcome) => {
                    let model = self.ensemble.clone().keep(&[place]).network.valid();
                    self.ended.push((member.index, Trained { model, history: member.history, outcome }));
                }
            }
        }
        if (1..count).contains(&staying.len()) {
            self.optimizer.keep_members(&staying, count);
            self.ensemble = self.ensemble.clone().keep(&staying);
        }
    }

    /// Returns the results, in the order of the networks.
    fn finished(mut self) -> Vec<Trained<N>> {
        self.ended.sort_by_key(|(index, _)| *index);
        self.ended.into_iter().map(|(_, trained)| trained).collect()
    }
}

/// Returns one module whose parameters hold those of all `modules`, which have equal shapes, one after the other along
/// the first axis; `None` if there are none.
pub(crate) fn joined<M: Module>(modules: Vec<M>) -> Option<M> {
    let mut modules = modules.into_iter();
    let first = modules.next()?;
    let flat = |module: M| {
        let mut flat = Flat::default();
        module.visit(&mut flat);
        flat
    };
    let mut others: Vec<Flat> = modules.map(flat).collect();
    Some(first.map(&mut Join(&mut others)))
}

/// The parameters of a module in order, flattened.
#[derive(Default)]
struct Flat(VecDeque<Tensor<1>>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(param.val().inner().flatten(0, D - 1));
    }
}

/// Appends the parameters of other modules to each parameter.
struct Join<'a>(&'a mut [Flat]);

impl ModuleMapper for Join<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let others = self.0.iter_mut().filter_map(|flat| flat.0.pop_front());
        resized(param, |own| Tensor::cat(std::iter::once(own).chain(others).collect(), 0))
    }
}

/// Keeps the parameters of some members of an ensemble of `count`.
struct Keep<'a> {
    members: &'a [usize],
    count: usize,
}

impl ModuleMapper for Keep<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        resized(param, |all| members_of(all, self.members, self.count))
    }
}

/// Changes the length of the first axis of a parameter, given its elements.
fn resized<const D: usize>(param: Param<Tensor<D>>, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Param<Tensor<D>> {
    let (id, value, mapper) = param.consume();
    let tracking = Tracking::of(&value);
    let mut shape = value.dims();
    let before: usize = shape.iter().product();
    let changed = change(value.inner().flatten(0, D - 1));
    let [after] = changed.dims();
    shape[0] = shape[0] * after / before.max(1);
    Param::from_mapped_value(id, tracking.applied(changed.reshape(shape)), mapper)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{
        model::HybridLm,
        train::{
            DivergedQuantity,
            tests::{config, measure, network, repeat_previous, run_network, tests, weights},
        },
    };

    /// Trains the members of an ensemble with these seeds.
    fn together(networks: Vec<HybridLm>, seeds: &[u64], config: &TrainConfig) -> Vec<Trained<HybridLm>> {
        let data = &mut |member: usize, step| Ok(repeat_previous(seeds[member], step));
        let evaluate = &mut |ensemble: &Ensemble<HybridLm>| {
            let answers = ensemble.predict(&tests())?;
            Ok(answers.iter().map(|answers| measure(answers)).collect())
        };
        train_ensemble(networks, config, data, evaluate, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn agree(architecture: &str, config: &TrainConfig) -> Vec<Outcome> {
        let seeds = [3, 1, 4, 5];
        let networks = || seeds.map(|seed| network(architecture, seed));
        assert!(networks().iter().all(HybridLm::can_ensemble));
        let trained = together(networks().to_vec(), &seeds, config);
        for ((seed, network), trained) in seeds.into_iter().zip(networks()).zip(&trained) {
            let alone = run_network(network, seed, config);
            assert_eq!((&trained.history, trained.outcome), (&alone.history, alone.outcome), "{architecture}, {seed}");
            assert_eq!(weights(&trained.model), weights(&alone.model), "{architecture}, {seed}");
        }
        trained.iter().map(|trained| trained.outcome).collect()
    }

    #[test]
    fn members_are_trained_as_if_alone_to_the_bit() {
        for architecture in ["AM", "SFRA"] {
            assert_eq!(agree(architecture, &config(60)), [Outcome::Finished; 4]);
        }
        agree("AM", &TrainConfig { clip_norm: None, log_every: 7, ..config(30) });
    }

    /// Burn's operations on the members together have other roundings than on each alone.
    #[test]
    fn composed_layers_agree_up_to_rounding() {
        let config = TrainConfig { recompute: true, evaluate_every: 1, ..config(20) };
        let trained = together(vec![network("AMF", 3), network("AMF", 1)], &[3, 1], &config);
        for (seed, trained) in [(3, &trained[0]), (1, &trained[1])] {
            let alone = run_network(network("AMF", seed), seed, &config);
            assert_eq!(trained.history.len(), 20);
            for (got, want) in trained.history.iter().zip(&alone.history) {
                assert!((got.train_loss / want.train_loss - 1.0).abs() < 1e-4, "{got:?} {want:?}");
                assert!((got.evaluation.loss / want.evaluation.loss - 1.0).abs() < 1e-4, "{got:?} {want:?}");
            }
        }
    }

    #[test]
    fn members_leave_when_they_reach_the_threshold() {
        let outcomes = agree("AM", &TrainConfig { stop_above: Some(0.9), evaluate_every: 5, ..config(400) });
        let steps: std::collections::BTreeSet<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::ReachedThreshold { step } => *step,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(steps.len() > 1, "they leave one after the other: {steps:?}");
    }

    #[test]
    fn a_member_that_is_not_a_number_ends_alone() {
        let broken = network("AM", 1).map(&mut Broken);
        let config = config(30);
        let trained = together(vec![network("AM", 3), broken, network("AM", 4)], &[3, 1, 4], &config);
        let reason = DivergedQuantity::Loss;
        assert_eq!(trained[1].outcome, Outcome::Diverged { step: 1, reason });
        for (seed, trained) in [(3, &trained[0]), (4, &trained[2])] {
            let alone = run_network(network("AM", seed), seed, &config);
            assert_eq!((&trained.history, trained.outcome), (&alone.history, Outcome::Finished));
        }
    }

    struct Broken;

    impl ModuleMapper for Broken {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| value * f32::NAN)
        }
    }

    #[test]
    fn a_cancelled_ensemble_and_an_empty_one_end() {
        let data = &mut |member: usize, step| Ok(repeat_previous(member as u64, step));
        let evaluate = &mut |_: &Ensemble<HybridLm>| -> Result<Vec<Evaluation>, TrainError> { panic!("not due") };
        let networks = vec![network("AM", 1), network("AM", 2)];
        let cancel = &mut |step| if step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let trained = train_ensemble(networks, &config(30), data, evaluate, cancel).unwrap();
        assert_eq!(trained.len(), 2);
        assert!(trained.iter().all(|trained| trained.outcome == Outcome::Cancelled { step: 3 }));
        assert!(train_ensemble(Vec::<HybridLm>::new(), &config(3), data, evaluate, cancel).unwrap().is_empty());
        let few = &mut |_: usize, _| Err::<TokenBatch, DataError>("no more".into());
        let refused = train_ensemble(vec![network("AM", 1)], &config(3), few, evaluate, cancel);
        assert!(matches!(refused, Err(TrainError::Data { step: 0, .. })));
    }
}
