//! Figures of how trials were aggregated into one architecture.

use plotters::{
    prelude::{Circle, PathElement},
    style::{Color, RGBColor, text_anchor::HPos},
};

use super::{
    axis::Axis,
    blocks::{FEW, bins},
    figure::{
        Area, Drawn, Figure, GREY, Hints, INK, ORANGE, PlotError, Room, color, csv, draw, fill, ink_on, scale, write,
    },
};
use crate::{
    aggregate::Clustering,
    study::{Goal, Study},
    text::{exact, number},
};

/// Up to this number of layers, the figure of the vote takes half the width of the page.
const NARROW_VOTE: usize = 8;

/// Returns whether clusters and votes are side by side.
pub(super) fn beside_each_other(clustering: &Clustering) -> bool {
    clustering.layers.len() <= NARROW_VOTE
}

/// Returns the size of the figures about a vote on a page.
fn room(clustering: &Clustering, height: i32) -> Room {
    if beside_each_other(clustering) { Room::half(height) } else { Room::wide(height) }
}

/// Draws the clusters of the observations: one dot per trial at its score. The cluster that votes is coloured.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn clusters(study: &Study, clustering: &Clustering) -> Result<Figure, PlotError> {
    let goal = study.goal();
    let rows = clustering.clusters.iter().enumerate().flat_map(|(index, cluster)| {
        cluster.trials.iter().map(move |id| {
            let report = study.trial(*id).ok().and_then(|trial| trial.report());
            let score = report.and_then(|report| report.scores.get(&goal.score)).map(|&score| exact(score));
            vec![(index + 1).to_string(), id.0.to_string(), score.unwrap_or_default()]
        })
    });
    let members = clustering.clusters.get(clustering.chosen).map_or(0, |cluster| cluster.trials.len());
    let vote = if members == 1 { "the single trial of the best one votes" } else { "the trials of the best one vote" };
    Ok(Figure {
        name: CLUSTERS,
        title: "Trials in clusters".into(),
        caption: format!(
            "{} clusters of similar {}, numbers of trials below; {vote}",
            clustering.clusters.len(),
            goal.score
        ),
        csv: csv(&["cluster", "trial", "score"], rows),
        svg: clusters_in(study, clustering, room(clustering, 196))?,
    })
}

/// Draws the clusters for a phone.
pub(super) fn narrow_clusters(study: &Study, clustering: &Clustering) -> Result<String, PlotError> {
    clusters_in(study, clustering, Room::narrow(196))
}

fn clusters_in(study: &Study, clustering: &Clustering, room: Room) -> Result<String, PlotError> {
    let size = (room.width as u32, room.height as u32);
    draw(CLUSTERS, size, |area, hints| paint_clusters(study, clustering, room, area, hints))
}

const CLUSTERS: &str = "clusters";

fn paint_clusters(study: &Study, clustering: &Clustering, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    /// The height of the scale, in pixels.
    const AXIS: i32 = 126;
    let goal: &Goal = study.goal();
    let left = 16;
    let right = room.width - 16;
    let middle = 44;
    let axis = Axis::new(clustering.clusters.iter().flat_map(|c| [goal.orient(c.low), goal.orient(c.high)]));
    let place = |score: f64| left + (f64::from(right - left) * axis.share(score)) as i32;
    let many = clustering.clusters.iter().map(|cluster| cluster.trials.len()).sum::<usize>() > FEW;
    scale(area, &axis, [left, right], AXIS)?;
    write(area, &goal.score, (i32::midpoint(left, right), AXIS + 36), 14, INK, HPos::Center)?;
    // The label of the cluster that votes comes first, because later labels that overlap are left out.
    let mut labels: Vec<[i32; 2]> = Vec::new();
    let mut order: Vec<usize> = (0..clustering.clusters.len()).collect();
    order.sort_by_key(|&index| index != clustering.chosen);
    for index in order {
        let cluster = &clustering.clusters[index];
        let tone = if index == clustering.chosen { ORANGE } else { GREY };
        let from = place(goal.orient(cluster.low));
        let to = place(goal.orient(cluster.high));
        let [from, to] = [from.min(to) - 5, from.max(to) + 5];
        let below = 86;
        area.draw(&PathElement::new([(from, below), (from, below + 6), (to, below + 6), (to, below)], tone))?;
        let text = cluster.trials.len().to_string();
        let half = 5 * text.len() as i32;
        let center = i32::midpoint(from, to);
        if !labels.iter().any(|&[low, high]| center - half < high && low < center + half) {
            let ink = if index == clustering.chosen { ORANGE } else { INK };
            write(area, &text, (center, below + 18), 14, ink, HPos::Center)?;
            labels.push([center - half, center + half]);
        }
        let scores =
            cluster.trials.iter().filter_map(|id| study.trial(*id).ok()?.report()?.scores.get(&goal.score).copied());
        if many {
            heap(area, hints, scores.map(place), (80, tone), index)?;
            continue;
        }
        for (row, id) in cluster.trials.iter().enumerate() {
            let Ok(trial) = study.trial(*id) else { continue };
            let Some(&score) = trial.report().and_then(|report| report.scores.get(&goal.score)) else { continue };
            // Neighbours are shifted a little up and down.
            let at = (place(score), middle + [0, -24, 24, -12, 12][row % 5]);
            area.draw(&Circle::new(at, 4, tone.mix(0.75).filled()))?;
            hints.point(at, &format!("{id}, {}: {}, cluster {}", trial.architecture, number(score, 4), index + 1));
        }
    }
    Ok(())
}

/// Draws bars whose heights are the numbers of trials at these positions, for clusters with too many trials for dots.
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
        // Heights grow with the square root, so that single trials remain visible beside thousands.
        let height = (72.0 * (count as f64 / most).sqrt()).ceil() as i32;
        let corners = [(left, bottom - height), (left + WIDTH - 1, bottom)];
        fill(area, corners, tone)?;
        hints.area(corners, &format!("{count} trials, cluster {}", cluster + 1));
    }
    Ok(())
}

/// Draws the vote on each layer: one column per layer, divided by the number of votes for each choice, with the winner
/// below.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn votes(clustering: &Clustering) -> Result<Figure, PlotError> {
    let rows = clustering.layers.iter().enumerate().flat_map(|(layer, vote)| {
        vote.votes.iter().map(move |choice| {
            let mean = choice.mean.map(exact).unwrap_or_default();
            let layer = (layer + 1).to_string();
            let won = choice.symbol == vote.chosen;
            vec![layer, choice.symbol.to_string(), choice.supporters.to_string(), mean, won.to_string()]
        })
    });
    Ok(Figure {
        name: VOTES,
        title: "The vote on each layer".into(),
        caption: format!(
            "How many voters have which letter at this layer; below, the result: {}",
            clustering.architecture
        ),
        csv: csv(&["layer", "primitive", "supporters", "mean_value", "won"], rows),
        svg: votes_in(clustering, room(clustering, 214))?,
    })
}

/// Draws the votes for a phone.
pub(super) fn narrow_votes(clustering: &Clustering) -> Result<String, PlotError> {
    votes_in(clustering, Room::narrow(214))
}

fn votes_in(clustering: &Clustering, room: Room) -> Result<String, PlotError> {
    let width = (room.width / clustering.layers.len().max(1) as i32).max(3);
    draw(VOTES, (room.width as u32, room.height as u32), |area, hints| paint_votes(clustering, width, area, hints))
}

const VOTES: &str = "votes";

fn paint_votes(clustering: &Clustering, width: i32, area: &Area, hints: &mut Hints) -> Drawn {
    const TOP: i32 = 22;
    const HEIGHT: i32 = 150;
    let every = 20 / width + 1;
    for (layer, vote) in clustering.layers.iter().enumerate() {
        let left = width * layer as i32;
        let middle = left + width / 2 - 1;
        if (layer as i32 % every) == 0 {
            write(area, &(layer + 1).to_string(), (middle, TOP / 2), 14, GREY, HPos::Center)?;
        }
        let all: usize = vote.votes.iter().map(|choice| choice.supporters).sum();
        let mut from = 0;
        for choice in vote.votes.iter().filter(|choice| choice.supporters > 0) {
            let to = from + choice.supporters;
            let at = |count: usize| TOP + HEIGHT * count as i32 / all.max(1) as i32;
            let corners = [(left, at(from)), (left + width - 3, at(to) - 1)];
            fill(area, corners, color(choice.symbol))?;
            let text = format!("layer {}: {} of {all} for {}", layer + 1, choice.supporters, choice.symbol);
            hints.area(corners, &text);
            if width >= 34 && at(to) - at(from) >= 18 {
                let text = format!("{} {}", choice.supporters, choice.symbol);
                let center = (middle, i32::midpoint(at(from), at(to)));
                write(area, &text, center, 14, ink_on(color(choice.symbol)), HPos::Center)?;
            }
            from = to;
        }
        let below = TOP + HEIGHT + 6;
        fill(area, [(left, below), (left + width - 3, below + 26)], color(vote.chosen))?;
        if width >= 12 {
            let text = vote.chosen.to_string();
            write(area, &text, (middle, below + 13), 14, ink_on(color(vote.chosen)), HPos::Center)?;
        }
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
        let clustering = NcClustering { clusters: 2, ..NcClustering::n0() }.explain(&study).unwrap();
        let figure = clusters(&study, &clustering).unwrap();
        assert_eq!(figure.csv, "cluster,trial,score\n1,0,0.2\n2,2,0.9\n2,3,0.88\n");
        let figure = votes(&clustering).unwrap();
        assert!(figure.csv.contains("\n4,A,1,0.9,true\n4,M,1,0.88,false\n"), "{}", figure.csv);
        assert_eq!(figure.svg.matches("<title>").count(), 5);
    }
}
