//! Which atoms are aromatic, however the molecule is written: π electrons are counted over rings and fused rings (4n +
//! 2, Hückel 1931), with the contributions that RDKit's model gives to atoms.

use std::collections::{BTreeSet, VecDeque};

use locus_genome::smiles::{Molecule, Order};

/// Larger rings are not looked at.
const MAX_RING: usize = 24;
/// Of a system of more fused rings than this, only single rings and pairs are looked at.
const MAX_FUSED: usize = 10;

/// What an atom is in the π system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aromatic {
    /// Part of an aromatic ring.
    pub aromatic: bool,
    /// It brings a lone pair, as the nitrogen of pyrrole does.
    pub pair: bool,
}

type Neighbours = [Vec<(usize, usize)>];

/// The π system of every atom.
pub fn perceive(molecule: &Molecule) -> Vec<Aromatic> {
    let neighbours = molecule.neighbours();
    let rings = rings(molecule, &neighbours);
    let cyclic: BTreeSet<usize> = rings.iter().flat_map(|r| r.bonds.iter().copied()).collect();
    let electrons: Vec<Option<u32>> =
        (0..molecule.atoms.len()).map(|i| electrons(molecule, &neighbours, &cyclic, i)).collect();
    let rings: Vec<&Ring> =
        rings.iter().filter(|r| r.atoms.iter().all(|&a| electrons[a].is_some())).collect();
    let mut found = vec![false; molecule.atoms.len()];
    for system in systems(&rings) {
        for subset in subsets(&rings, &system) {
            let mut times: std::collections::BTreeMap<usize, usize> = Default::default();
            subset.iter().flat_map(|&r| &rings[r].atoms).for_each(|&a| *times.entry(a).or_default() += 1);
            // An atom of three of the rings lies inside.
            let count: u32 = times.iter().filter(|(_, n)| **n < 3).filter_map(|(&a, _)| electrons[a]).sum();
            if count % 4 == 2 {
                times.keys().for_each(|&a| found[a] = true);
            }
        }
    }
    (0..found.len())
        .map(|a| Aromatic { aromatic: found[a], pair: found[a] && electrons[a] == Some(2) })
        .collect()
}

/// Electrons that an atom brings; `None` where it cannot be part of a π system.
fn electrons(
    molecule: &Molecule,
    neighbours: &Neighbours,
    cyclic: &BTreeSet<usize>,
    at: usize,
) -> Option<u32> {
    let atom = molecule.atoms[at];
    let bonds = &neighbours[at];
    let order = |&&(_, bond): &&(usize, usize)| molecule.bonds[bond].order;
    let of = |wanted: Order| bonds.iter().filter(|b| order(b) == wanted).count();
    let hydrogens = usize::from(atom.hydrogens.unwrap_or(0));
    if of(Order::Triple) + of(Order::Quadruple) > 0 || of(Order::Double) > 1 || bonds.len() + hydrogens > 3 {
        return None;
    }
    let double = bonds.iter().find(|b| order(b) == Order::Double);
    let outside =
        double.filter(|(_, bond)| !cyclic.contains(bond)).map(|&(next, _)| molecule.atoms[next].number);
    let doubled = double.is_some();
    match (atom.number, atom.charge) {
        // More electronegative atoms outside the ring take the electron.
        (6, 0) if outside.is_some_and(|n| matches!(n, 7 | 8 | 9 | 16 | 34)) => Some(0),
        (6, 0) => (doubled || atom.aromatic).then_some(1),
        (6, -1) => Some(2),
        (6, 1) => Some(u32::from(doubled)),
        (5, 0) => Some(0),
        // In the place of a double bond: aromatic, with two neighbours and no hydrogen.
        (7 | 15 | 33, 0) if atom.aromatic => Some(if bonds.len() + hydrogens == 2 { 1 } else { 2 }),
        (7 | 15 | 33, 0) if outside.is_some() || doubled && bonds.len() == 3 => None,
        (7 | 15 | 33, 0) => Some(if doubled { 1 } else { 2 }),
        (7 | 15 | 33, 1) => (outside.is_none() && (doubled || atom.aromatic)).then_some(1),
        (7 | 15 | 33, -1) => (!doubled).then_some(2),
        (8 | 16 | 34 | 52, 0) => (!doubled && bonds.len() == 2).then_some(2),
        (8 | 16 | 34 | 52, 1) => (doubled || atom.aromatic).then_some(1),
        _ => None,
    }
}

#[derive(Clone, Debug)]
struct Ring {
    atoms: Vec<usize>,
    bonds: BTreeSet<usize>,
}

/// A smallest set of smallest rings, up to [`MAX_RING`] atoms: candidates by shortest paths (Horton 1987), the
/// shortest that are independent.
fn rings(molecule: &Molecule, neighbours: &Neighbours) -> Vec<Ring> {
    let core = core(neighbours);
    let mut candidates: BTreeSet<(usize, Vec<usize>)> = BTreeSet::new();
    for root in (0..core.len()).filter(|&i| core[i]) {
        // Shortest paths from the root, as far as half a ring.
        let mut from: Vec<Option<(usize, usize)>> = vec![None; core.len()];
        let mut depth = vec![usize::MAX; core.len()];
        depth[root] = 0;
        let mut queue = VecDeque::from([root]);
        let mut reached = vec![root];
        while let Some(at) = queue.pop_front() {
            for &(next, bond) in neighbours[at].iter().filter(|(n, _)| core[*n]) {
                if depth[next] == usize::MAX && depth[at] < MAX_RING / 2 {
                    depth[next] = depth[at] + 1;
                    from[next] = Some((at, bond));
                    reached.push(next);
                    queue.push_back(next);
                }
            }
        }
        let path = |mut at: usize| {
            let mut bonds = Vec::new();
            while let Some((before, bond)) = from[at] {
                bonds.push(bond);
                at = before;
            }
            bonds
        };
        for &x in &reached {
            for &(y, bond) in neighbours[x].iter().filter(|(y, _)| x < *y && depth[*y] != usize::MAX) {
                if from[y].is_some_and(|(_, b)| b == bond) || from[x].is_some_and(|(_, b)| b == bond) {
                    continue;
                }
                let mut bonds = path(x);
                bonds.extend(path(y));
                bonds.push(bond);
                let size = bonds.len();
                bonds.sort_unstable();
                bonds.dedup();
                // Paths that share a bond close no ring through the root.
                if bonds.len() == size && size <= MAX_RING {
                    candidates.insert((size, bonds));
                }
            }
        }
    }
    let inner = molecule.bonds.iter().filter(|b| core[b.from] && core[b.to]).count();
    // As many as are independent.
    let parts = parts(neighbours, &core);
    let most = (inner + parts).saturating_sub(core.iter().filter(|c| **c).count());
    let mut rows: Vec<BTreeSet<usize>> = Vec::new();
    let mut rings = Vec::new();
    for (_, bonds) in candidates {
        if rings.len() == most {
            break;
        }
        let mut rest: BTreeSet<usize> = bonds.iter().copied().collect();
        for row in &rows {
            if row.first().is_some_and(|lead| rest.contains(lead)) {
                rest = rest.symmetric_difference(row).copied().collect();
            }
        }
        if rest.is_empty() {
            continue;
        }
        rows.push(rest);
        let atoms: BTreeSet<usize> =
            bonds.iter().flat_map(|&b| [molecule.bonds[b].from, molecule.bonds[b].to]).collect();
        rings.push(Ring { atoms: atoms.into_iter().collect(), bonds: bonds.into_iter().collect() });
    }
    rings
}

/// Connected parts of the core.
fn parts(neighbours: &Neighbours, core: &[bool]) -> usize {
    let mut left: BTreeSet<usize> = (0..core.len()).filter(|&i| core[i]).collect();
    let mut parts = 0;
    while let Some(start) = left.pop_first() {
        parts += 1;
        let mut stack = vec![start];
        while let Some(at) = stack.pop() {
            stack.extend(neighbours[at].iter().map(|(next, _)| *next).filter(|next| left.remove(next)));
        }
    }
    parts
}

/// Atoms of rings and of what links them.
pub(super) fn core(neighbours: &Neighbours) -> Vec<bool> {
    let mut degree: Vec<usize> = neighbours.iter().map(Vec::len).collect();
    let mut core = vec![true; degree.len()];
    let mut ends: Vec<usize> = (0..degree.len()).filter(|&i| degree[i] < 2).collect();
    while let Some(end) = ends.pop() {
        if !std::mem::replace(&mut core[end], false) {
            continue;
        }
        for &(next, _) in &neighbours[end] {
            degree[next] = degree[next].saturating_sub(1);
            if core[next] && degree[next] < 2 {
                ends.push(next);
            }
        }
    }
    core
}

fn fused(a: &Ring, b: &Ring) -> bool {
    !a.bonds.is_disjoint(&b.bonds)
}

/// Rings that are fused with each other, directly or over others.
fn systems(rings: &[&Ring]) -> Vec<Vec<usize>> {
    let mut left: BTreeSet<usize> = (0..rings.len()).collect();
    let mut systems = Vec::new();
    while let Some(start) = left.pop_first() {
        let mut system = vec![start];
        let mut at = 0;
        while at < system.len() {
            let next: Vec<usize> =
                left.iter().copied().filter(|&r| fused(rings[system[at]], rings[r])).collect();
            left.retain(|r| !next.contains(r));
            system.extend(next);
            at += 1;
        }
        systems.push(system);
    }
    systems
}

/// Sets of rings of a system that hang together.
fn subsets(rings: &[&Ring], system: &[usize]) -> Vec<Vec<usize>> {
    let n = system.len();
    let joined = |members: &[usize]| {
        let mut seen = vec![members[0]];
        let mut at = 0;
        while at < seen.len() {
            for &r in members {
                if !seen.contains(&r) && fused(rings[seen[at]], rings[r]) {
                    seen.push(r);
                }
            }
            at += 1;
        }
        seen.len() == members.len()
    };
    let all: Vec<Vec<usize>> = if n <= MAX_FUSED {
        (1_usize..1 << n)
            .map(|mask| (0..n).filter(|i| mask >> i & 1 == 1).map(|i| system[i]).collect())
            .collect()
    } else {
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (j, i))).map(|(j, i)| vec![system[j], system[i]]);
        system.iter().map(|&r| vec![r]).chain(pairs).collect()
    };
    all.into_iter().filter(|members: &Vec<usize>| joined(members)).collect()
}

#[cfg(test)]
mod tests {
    use locus_genome::smiles::Bond;

    use super::*;

    fn aromatic(text: &str) -> usize {
        perceive(&Molecule::parse(text).unwrap()).iter().filter(|a| a.aromatic).count()
    }

    #[test]
    fn both_writings_of_a_ring_are_aromatic() {
        for (text, expected) in [
            ("c1ccccc1", 6),
            ("C1=CC=CC=C1", 6),
            ("C1CCCCC1", 0),
            ("C1=CC=CC1", 0),
            ("N1C=CC=C1", 5),
            ("[nH]1cccc1", 5),
            ("O=C1C=CC=CN1", 6),
            ("C1=CC2=CC=CC=CC2=C1", 10),
            ("C1=CC=C2C=CC=CC2=C1", 10),
            ("Cn1cnc2c1c(=O)n(C)c(=O)n2C", 9),
            ("CN1C=NC2=C1C(=O)N(C)C(=O)N2C", 9),
            ("C1=CC=CC=CC=C1", 0),
            ("O=S1(=O)C=CC=C1", 0),
            ("c1ccc(-c2ccccc2)cc1", 12),
            ("C1C2CC3CC1CC(C2)C3", 0),
            ("[n+]1(C)ccccc1", 6),
            ("C[N+]1=CC=CC=C1", 6),
        ] {
            assert_eq!(aromatic(text), expected, "{text}");
        }
    }

    #[test]
    fn a_lone_pair_tells_the_nitrogens_of_imidazole_apart() {
        let pairs = |text: &str| -> Vec<bool> {
            perceive(&Molecule::parse(text).unwrap()).iter().map(|a| a.pair).collect()
        };
        assert_eq!(pairs("c1c[nH]cn1"), [false, false, true, false, false]);
        assert_eq!(pairs("C1=CNC=N1"), pairs("c1c[nH]cn1"));
    }

    #[test]
    fn a_sheet_of_hundreds_of_rings_is_done_in_no_time() {
        // A wall of bricks: the rings of graphene.
        let (rows, columns) = (22, 22);
        let atom = Molecule::parse("c").unwrap().atoms[0];
        let at = |r: usize, c: usize| r * columns + c;
        let mut molecule = Molecule { atoms: vec![atom; rows * columns], bonds: Vec::new() };
        for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            let mut bond = |to| molecule.bonds.push(Bond { from: at(r, c), to, order: Order::Aromatic });
            if c + 1 < columns {
                bond(at(r, c + 1));
            }
            if r + 1 < rows && (r + c) % 2 == 0 {
                bond(at(r + 1, c));
            }
        }
        let start = std::time::Instant::now();
        assert!(perceive(&molecule).iter().filter(|a| a.aromatic).count() > 470);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn cages_have_as_many_rings_as_they_should() {
        for (text, expected) in
            [("C12C3C4C1C5C2C3C45", 5), ("C1CC2CCC1CC2", 2), ("C1C2CC3CC1CC(C2)C3", 3), ("CCO", 0)]
        {
            let molecule = Molecule::parse(text).unwrap();
            assert_eq!(rings(&molecule, &molecule.neighbours()).len(), expected, "{text}");
        }
    }
}
