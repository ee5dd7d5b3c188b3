//! How trials became one architecture.

use plotters::{
    prelude::{Circle, PathElement},
    style::{Color, RGBColor, text_anchor::HPos},
};

use super::{
    axis::Axis,
    blocks::{FEW, bins},
    figure::{Area, Drawn, Figure, GREY, Hints, INK, PlotError, color, csv, draw, fill, write},
};
use crate::{
    aggregate::Clustering,
    study::{Goal, Study},
    text::{exact, number},
};

/// The clusters of the observations: one dot per trial by its score, the cluster that votes in colour.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn clusters(study: &Study, clustering: &Clustering) -> Result<Figure, PlotError> {
    const NAME: &str = "clusters";
    let goal = study.goal();
    let rows = clustering.clusters.iter().enumerate().flat_map(|(index, cluster)| {
        cluster.trials.iter().map(move |id| {
            let report = study.trial(*id).ok().and_then(|trial| trial.report());
            let score = report.and_then(|report| report.scores.get(&goal.score)).map(|&score| exact(score));
            vec![(index + 1).to_string(), id.0.to_string(), score.unwrap_or_default()]
        })
    });
    let members = clustering.clusters.get(clustering.chosen).map_or(0, |cluster| cluster.trials.len());
    Ok(Figure {
        name: NAME,
        title: "The clusters".into(),
        caption: format!(
            "{} clusters of {}; the {members} trials of the best one vote",
            clustering.clusters.len(),
            goal.score
        ),
        csv: csv(&["cluster", "trial", "score"], rows),
        svg: draw(NAME, (930, 110), |area, hints| paint_clusters(study, clustering, area, hints))?,
    })
}

const VOTES: RGBColor = RGBColor(217, 95, 2);

fn paint_clusters(study: &Study, clustering: &Clustering, area: &Area, hints: &mut Hints) -> Drawn {
    let goal: &Goal = study.goal();
    let left = 24.0;
    let right = 906.0;
    let middle = 44;
    let axis = Axis::new(clustering.clusters.iter().flat_map(|c| [goal.orient(c.low), goal.orient(c.high)]));
    let place = |score: f64| (left + (right - left) * axis.share(score)) as i32;
    let many = clustering.clusters.iter().map(|cluster| cluster.trials.len()).sum::<usize>() > FEW;
    area.draw(&PathElement::new([(left as i32, middle), (right as i32, middle)], GREY))?;
    for (index, cluster) in clustering.clusters.iter().enumerate() {
        let tone = if index == clustering.chosen { VOTES } else { GREY };
        let from = place(goal.orient(cluster.low));
        let to = place(goal.orient(cluster.high));
        let (from, to) = (from.min(to) - 5, from.max(to) + 5);
        area.draw(&PathElement::new(
            [(from, middle + 16), (from, middle + 22), (to, middle + 22), (to, middle + 16)],
            tone,
        ))?;
        let label = number(goal.orient(cluster.mean), 3);
        write(area, &label, ((from + to) / 2, middle + 36), 12, tone, HPos::Center)?;
        let scores =
            cluster.trials.iter().filter_map(|id| study.trial(*id).ok()?.report()?.scores.get(&goal.score).copied());
        if many {
            heap(area, hints, scores.map(place), (middle, tone), index)?;
            continue;
        }
        for (row, id) in cluster.trials.iter().enumerate() {
            let Ok(trial) = study.trial(*id) else { continue };
            let Some(&score) = trial.report().and_then(|report| report.scores.get(&goal.score)) else { continue };
            // Neighbours a little above and below each other.
            let at = (place(score), middle + [0, -9, 9][row % 3]);
            area.draw(&Circle::new(at, 4, tone.mix(0.75).filled()))?;
            hints.point(at, &format!("{id}, {}: {}, cluster {}", trial.architecture, number(score, 4), index + 1));
        }
    }
    Ok(())
}

/// Bars as high as there are trials at these places, for clusters of too many to be dots.
fn heap(
    area: &Area,
    hints: &mut Hints,
    places: impl Iterator<Item = i32>,
    (bottom, tone): (i32, RGBColor),
    cluster: usize,
) -> Drawn {
    const WIDTH: i32 = 4;
    let bins = bins(places, WIDTH);
    let most = bins.values().copied().max().unwrap_or(1) as f64;
    for (left, count) in bins {
        // Heights by the root: single trials remain visible beside thousands.
        let height = (36.0 * (count as f64 / most).sqrt()).ceil() as i32;
        let corners = [(left, bottom - height), (left + WIDTH - 1, bottom)];
        fill(area, corners, tone)?;
        hints.area(corners, &format!("{count} trials, cluster {}", cluster + 1));
    }
    Ok(())
}

/// The vote on each layer: a column per layer, divided by the supporters of each choice; a frame marks the winner.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn votes(clustering: &Clustering) -> Result<Figure, PlotError> {
    const NAME: &str = "votes";
    let rows = clustering.layers.iter().enumerate().flat_map(|(layer, vote)| {
        vote.votes.iter().map(move |choice| {
            let mean = choice.mean.map(exact).unwrap_or_default();
            let layer = (layer + 1).to_string();
            let won = choice.symbol == vote.chosen;
            vec![layer, choice.symbol.to_string(), choice.supporters.to_string(), mean, won.to_string()]
        })
    });
    let width = (720 / clustering.layers.len().max(1) as i32).clamp(16, 64);
    let size = ((24 + width * clustering.layers.len() as i32).max(200) as u32, 210);
    Ok(Figure {
        name: NAME,
        title: "The vote on each layer".into(),
        caption: format!("Share of the voters for each primitive; below, the winner: {}", clustering.architecture),
        csv: csv(&["layer", "primitive", "supporters", "mean_value", "won"], rows),
        svg: draw(NAME, size, |area, hints| paint_votes(clustering, width, area, hints))?,
    })
}

fn paint_votes(clustering: &Clustering, width: i32, area: &Area, hints: &mut Hints) -> Drawn {
    let top = 12;
    let height = 150;
    for (layer, vote) in clustering.layers.iter().enumerate() {
        let left = 12 + width * layer as i32;
        let all: usize = vote.votes.iter().map(|choice| choice.supporters).sum();
        let mut from = 0;
        for choice in &vote.votes {
            let to = from + choice.supporters;
            let at = |count: usize| top + height * count as i32 / all.max(1) as i32;
            let corners = [(left, at(from)), (left + width - 3, at(to) - i32::from(to > from))];
            if to > from {
                fill(area, corners, color(choice.symbol))?;
                let text = format!("layer {}: {} of {all} for {}", layer + 1, choice.supporters, choice.symbol);
                hints.area(corners, &text);
            }
            if width >= 30 && at(to) - at(from) >= 18 {
                let middle = (left + width / 2 - 1, i32::midpoint(at(from), at(to)));
                write(
                    area,
                    &format!("{} {}", choice.supporters, choice.symbol),
                    middle,
                    13,
                    plotters::style::WHITE,
                    HPos::Center,
                )?;
            }
            from = to;
        }
        let below = top + height + 6;
        fill(area, [(left, below), (left + width - 3, below + 24)], color(vote.chosen))?;
        write(
            area,
            &vote.chosen.to_string(),
            (left + width / 2 - 1, below + 12),
            14,
            plotters::style::WHITE,
            HPos::Center,
        )?;
    }
    if clustering.layers.is_empty() {
        write(area, "no layers", (12, 60), 13, INK, HPos::Left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::aggregate::NcClustering;

    #[test]
    fn clusters_and_votes_are_those_of_the_aggregator() {
        let study = study(&[Some(0.2), None, Some(0.9), Some(0.88)]);
        let clustering = NcClustering::n0().with_clusters(2).explain(&study).unwrap();
        let figure = clusters(&study, &clustering).unwrap();
        assert_eq!(figure.csv, "cluster,trial,score\n1,0,0.2\n2,2,0.9\n2,3,0.88\n");
        let figure = votes(&clustering).unwrap();
        assert!(figure.csv.contains("\n4,A,1,0.9,true\n4,M,1,0.88,false\n"), "{}", figure.csv);
        assert_eq!(figure.svg.matches("<title>").count(), 5);
    }
}
