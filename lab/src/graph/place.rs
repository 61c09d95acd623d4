//! Where nodes stand within their layers: few crossings, everyone near those it is linked to.

/// Sweeps over the layers; the order settles long before.
const SWEEPS: usize = 12;
/// Free space between two boxes, in pixels.
const GAP: f64 = 36.0;
/// Between two that have a link to each other, which bears names.
const LINKED_GAP: f64 = 120.0;

/// Sorts each layer so that few links cross, and gives each node the middle of its box, from 0 on.
///
/// `widths` are those of the boxes; `edges` are pairs of nodes.
pub(super) fn place(layers: &mut [Vec<usize>], widths: &[f64], edges: &[(usize, usize)]) -> Vec<f64> {
    let neighbours = neighbours(widths.len(), edges);
    order(layers, edges, &neighbours);
    let mut x = vec![0.0; widths.len()];
    for layer in layers.iter() {
        let mut left = 0.0;
        for node in layer {
            x[*node] = left + widths[*node] / 2.0;
            left += widths[*node] + GAP;
        }
        // Centred above each other, which is where most of them stay.
        for node in layer {
            x[*node] -= (left - GAP) / 2.0;
        }
    }
    for sweep in 0..SWEEPS {
        for step in 0..layers.len() {
            let layer = &layers[if sweep % 2 == 0 { step } else { layers.len() - 1 - step }];
            let wanted: Vec<f64> = layer.iter().map(|node| mean(&neighbours[*node], &x, x[*node])).collect();
            let gap = |a: usize, b: usize| if neighbours[a].contains(&b) { LINKED_GAP } else { GAP };
            let apart = |pair: &[usize]| (widths[pair[0]] + widths[pair[1]]) / 2.0 + gap(pair[0], pair[1]);
            let apart: Vec<f64> = layer.windows(2).map(apart).collect();
            for (node, at) in layer.iter().zip(nearest(&wanted, &apart)) {
                x[*node] = at;
            }
        }
    }
    let left = (0..x.len()).map(|node| x[node] - widths[node] / 2.0).fold(f64::INFINITY, f64::min);
    x.iter().map(|at| at - left).collect()
}

fn neighbours(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); count];
    for (a, b) in edges {
        neighbours[*a].push(*b);
        neighbours[*b].push(*a);
    }
    neighbours
}

fn mean(of: &[usize], x: &[f64], otherwise: f64) -> f64 {
    if of.is_empty() { otherwise } else { of.iter().map(|node| x[*node]).sum::<f64>() / of.len() as f64 }
}

/// Each node near the middle of those it is linked to (barycentre method); the best order seen is kept.
fn order(layers: &mut [Vec<usize>], edges: &[(usize, usize)], neighbours: &[Vec<usize>]) {
    let mut best = layers.to_vec();
    let mut fewest = crossings(layers, edges);
    for sweep in 0..SWEEPS {
        for step in 0..layers.len() {
            let at = if sweep % 2 == 0 { step } else { layers.len() - 1 - step };
            let place = places(layers, neighbours.len());
            let key = |node: usize| mean(&neighbours[node], &place, place[node]);
            layers[at].sort_by(|a, b| key(*a).total_cmp(&key(*b)));
        }
        let now = crossings(layers, edges);
        if now < fewest {
            (fewest, best) = (now, layers.to_vec());
        }
    }
    layers.clone_from_slice(&best);
}

/// Each node's place in its layer, from 0 to 1.
fn places(layers: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut place = vec![0.0; count];
    for layer in layers {
        for (index, node) in layer.iter().enumerate() {
            place[*node] = (index as f64 + 0.5) / layer.len() as f64;
        }
    }
    place
}

/// Pairs of links between the same two layers that cross.
fn crossings(layers: &[Vec<usize>], edges: &[(usize, usize)]) -> usize {
    let spot = |node: usize| {
        layers
            .iter()
            .enumerate()
            .find_map(|(layer, nodes)| Some((layer, nodes.iter().position(|n| *n == node)?)))
    };
    let lines: Vec<((usize, usize), (usize, usize))> = edges
        .iter()
        .filter_map(|(a, b)| Some((spot(*a)?, spot(*b)?)))
        .map(|(a, b)| if a.0 <= b.0 { (a, b) } else { (b, a) })
        .collect();
    let cross = |one: &((usize, usize), (usize, usize)), other: &((usize, usize), (usize, usize))| {
        (one.0.0, one.1.0) == (other.0.0, other.1.0)
            && (one.0.1 < other.0.1 && one.1.1 > other.1.1 || one.0.1 > other.0.1 && one.1.1 < other.1.1)
    };
    lines
        .iter()
        .enumerate()
        .map(|(i, one)| lines[i + 1..].iter().filter(|other| cross(one, other)).count())
        .sum()
}

/// The positions nearest to those wanted (least squares) that keep the order and the distances `apart`.
///
/// Distances are taken out first; what remains is isotonic regression, by pooling adjacent violators.
fn nearest(wanted: &[f64], apart: &[f64]) -> Vec<f64> {
    let mut offsets = vec![0.0];
    for distance in apart {
        offsets.push(offsets[offsets.len() - 1] + distance);
    }
    // Pools of neighbours that stand as close as they may: sum of what they want, and how many.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (want, offset) in wanted.iter().zip(&offsets) {
        pools.push((want - offset, 1));
        while let [.., (sum, count), (next_sum, next_count)] = pools[..]
            && sum / count as f64 > next_sum / next_count as f64
        {
            pools.truncate(pools.len() - 2);
            pools.push((sum + next_sum, count + next_count));
        }
    }
    let level = pools.iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / *count as f64, *count));
    level.zip(&offsets).map(|(level, offset)| level + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_stands_closer_than_allowed_and_nobody_moves_without_need() {
        assert_eq!(nearest(&[0.0, 10.0, 11.0, 40.0], &[5.0, 5.0, 5.0]), [0.0, 8.0, 13.0, 40.0]);
        assert_eq!(nearest(&[5.0, 0.0], &[10.0]), [-2.5, 7.5]);
    }

    #[test]
    fn a_crossing_that_need_not_be_is_undone() {
        // 0 and 1 above; 2 hangs on 1, 3 on 0.
        let mut layers = vec![vec![0, 1], vec![2, 3]];
        let x = place(&mut layers, &[100.0; 4], &[(0, 3), (1, 2)]);
        assert_eq!(crossings(&layers, &[(0, 3), (1, 2)]), 0);
        assert_eq!((x[0], x[1]), (x[3], x[2]));
    }
}
