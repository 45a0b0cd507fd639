//! From merges to clusters: scipy's order of merges, and the numbers that its `fcluster(..., "maxclust")` gives.

/// Two clusters become one: each is named by one of its rows at first, by its node in the tree after [`relabel`].
pub(super) struct Merge {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) height: f64,
}

/// Each row's cluster, counted from 1, where merges go on until at most `clusters` are left.
pub(super) fn cut(merges: &mut [Merge], clusters: usize) -> Vec<usize> {
    relabel(merges);
    // Each merge takes away one cluster, and those of equal height go together: fewer may be left.
    let cutoff = merges[merges.len() - clusters].height;
    number(merges, cutoff)
}

/// Sorts the merges by height and names their sides: the rows are `0..n`, and merge `k` makes node `n + k`. The last
/// one makes the root.
fn relabel(merges: &mut [Merge]) {
    merges.sort_by(|a, b| a.height.total_cmp(&b.height));
    let n = merges.len() + 1;
    let mut parents: Vec<_> = (0..n + merges.len()).collect();
    for (k, merge) in merges.iter_mut().enumerate() {
        let (a, b) = (root(&mut parents, merge.left), root(&mut parents, merge.right));
        (merge.left, merge.right) = (a.min(b), a.max(b));
        (parents[a], parents[b]) = (n + k, n + k);
    }
}

/// The node above all others over `node`, with shortcuts for the next time.
fn root(parents: &mut [usize], mut node: usize) -> usize {
    while parents[node] != node {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    node
}

/// Counts as scipy does: depth first from the root, and at each node the inner sides before the single rows.
fn number(merges: &[Merge], cutoff: f64) -> Vec<usize> {
    let n = merges.len() + 1;
    let (mut labels, mut count) = (vec![0; n], 0);
    // Nodes, and the clusters that they are in; 0 above the cut.
    let mut stack = vec![(n + merges.len() - 1, 0)];
    while let Some((node, mut label)) = stack.pop() {
        let merge = node.checked_sub(n).map(|k| &merges[k]);
        if label == 0 && merge.is_none_or(|merge| merge.height <= cutoff) {
            count += 1;
            label = count;
        }
        if let Some(merge) = merge {
            let (first, second) = (merge.left, merge.right);
            // The later one on the stack is the first to be visited.
            let sides = if first < n && second >= n { [first, second] } else { [second, first] };
            stack.extend(sides.map(|side| (side, label)));
        } else {
            labels[node] = label;
        }
    }
    labels
}
