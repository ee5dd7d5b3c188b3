//! Training on a parent's distributions.

use std::ops::ControlFlow;

use composer_nas::{
    pretrain::{Measured, PretrainConfig},
    train::{AdamWConfig, LrSchedule, Outcome, Precision, TrainConfig},
};

use super::*;

fn config() -> PretrainConfig {
    PretrainConfig {
        seq_len: 24,
        train: TrainConfig {
            steps: 40,
            batch_size: 2,
            schedule: LrSchedule::constant(3e-3),
            optimizer: AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() },
            clip_norm: Some(1.0),
            evaluate_every: 20,
            log_every: 1,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        },
        micro_batch: 2,
        validation_share: 0.2,
        validation_windows: 2,
        checkpoint_every: 10,
        keep: 1,
        seed: Seed(0),
    }
}

#[test]
fn a_healed_model_is_nearer_to_its_parent_however_often_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = parent("AMAM");
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("S"));
    let library = Arc::new(library(&parent, &alternatives, folder).unwrap());
    let evaluator = Distillation::new(library.clone(), &alternatives, held_out(folder, 4)).unwrap();
    let spec = library.spec(&"SMSM".parse().unwrap());
    let start = library.assemble(&spec.architecture).unwrap();
    let primitives = primitives();
    let corpus = corpus(folder);
    let config = config();
    let healing =
        Healing { parent: &parent, primitives: &primitives, corpus: &corpus, config: &config, everything: false };
    // The parent itself has nothing to heal, and would only drift.
    let nothing = heal(&healing, parent.spec(), parent.model().clone(), folder.join("nothing"), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(nothing.unwrap_err().to_string().contains("nothing to heal") && !folder.join("nothing").exists());
    let mut losses = Vec::new();
    let healed = heal(&healing, &spec, start.clone(), folder.join("whole"), &mut |record| {
        if let Measured::Training { loss, .. } = record.measured {
            losses.push(loss);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(healed.outcome, Outcome::Finished);
    let [before, after] = [&start, &healed.model].map(|model| evaluator.judge(model).unwrap().scores[KL]);
    assert!(after < 0.8 * before && losses[0] > 0.0, "{before} {after}");
    // Layers that were not replaced stay as they were; so does the embedding.
    let kept = |model: &HybridLm| model.backbone.embedding.val().into_data();
    assert_eq!(kept(&healed.model), kept(parent.model()));

    let mut heard = 0;
    let stopped = heal(&healing, &spec, start.clone(), folder.join("parts"), &mut |_| {
        heard += 1;
        if heard == 13 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert!(matches!(stopped.outcome, Outcome::Cancelled { .. }));
    let resumed = heal(&healing, &spec, start, folder.join("parts"), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(logits(&resumed.model, 12), logits(&healed.model, 12));
    // A folder goes on with the same start alone.
    let error = heal(&healing, &spec, healed.model, folder.join("parts"), &mut |_| ControlFlow::Continue(()));
    assert!(composer_nas::text::causes(&error.unwrap_err()).contains("distillation was"));
}

#[test]
fn a_candidate_may_be_judged_after_some_steps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = parent("AMAM");
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("S"));
    let library = Arc::new(library(&parent, &alternatives, folder).unwrap());
    let plain = || Distillation::new(library.clone(), &alternatives, held_out(folder, 4)).unwrap();
    let batches = windows(folder)[0].sample(80, 2).unwrap();

    let healed = plain().after_healing(config().train, batches.clone()).unwrap();
    assert_ne!(plain().fingerprint(), healed.fingerprint());
    let kl = |evaluator: &Distillation, architecture: &str| {
        let trial = Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher);
        evaluator.evaluate(&trial, &Context::default()).unwrap().scores[KL]
    };
    assert!(kl(&healed, "SMSM") < 0.9 * kl(&plain(), "SMSM"));
    assert_eq!(kl(&healed, "AMAM"), 0.0);
    assert!(plain().after_healing(config().train, Vec::new()).is_err());
    assert!(plain().after_healing(TrainConfig { steps: 0, ..config().train }, batches).is_err());
}
