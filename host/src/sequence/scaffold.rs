//! Frameworks of molecules (Bemis & Murcko 1996): rings and what links them, with the atoms that are bonded to them
//! twice, as RDKit keeps them; and one writing for every graph.

use locus_genome::smiles::{Molecule, Order};

use super::aromatic::{core, perceive};

/// Graphs beyond this are not brought into one writing.
const MAX_ATOMS: usize = 500;

/// What tells two atoms apart before their neighbours are looked at: atomic number, charge, and their part in aromatic
/// rings.
type Label = (u8, i8, bool, bool);

/// One writing of a molecule's graph, whatever the order in which it was written; `None` beyond 500 atoms. Its
/// stereochemistry is not looked at.
pub fn canonical(molecule: &Molecule) -> Option<String> {
    write(molecule, &vec![true; molecule.atoms.len()])
}

/// One writing of a molecule's scaffold, empty where it has no ring; `None` beyond 500 atoms.
pub fn scaffold(molecule: &Molecule) -> Option<String> {
    let neighbours = molecule.neighbours();
    let framework = core(&neighbours);
    let doubled =
        |&(next, bond): &(usize, usize)| framework[next] && molecule.bonds[bond].order == Order::Double;
    let kept: Vec<bool> =
        (0..framework.len()).map(|i| framework[i] || neighbours[i].iter().any(doubled)).collect();
    write(molecule, &kept)
}

fn write(molecule: &Molecule, kept: &[bool]) -> Option<String> {
    if molecule.atoms.len() > MAX_ATOMS {
        return None;
    }
    let mut place = vec![usize::MAX; kept.len()];
    let atoms: Vec<usize> = (0..kept.len()).filter(|&i| kept[i]).collect();
    for (at, &atom) in atoms.iter().enumerate() {
        place[atom] = at;
    }
    let system = perceive(molecule);
    let mut bonds: Vec<Vec<(Order, usize)>> = vec![Vec::new(); atoms.len()];
    for bond in molecule.bonds.iter().filter(|b| kept[b.from] && kept[b.to]) {
        // Between aromatic atoms it does not matter which bond is written as the double one, or none.
        let within = system[bond.from].aromatic && system[bond.to].aromatic;
        let order = if within { Order::Aromatic } else { bond.order };
        bonds[place[bond.from]].push((order, place[bond.to]));
        bonds[place[bond.to]].push((order, place[bond.from]));
    }
    let label = |&i: &usize| {
        let atom = molecule.atoms[i];
        (atom.number, atom.charge, system[i].aromatic, system[i].pair)
    };
    let labels: Vec<Label> = atoms.iter().map(label).collect();
    let mut parts: Vec<String> =
        components(&bonds).iter().map(|part| write_part(&labels, &bonds, part)).collect();
    parts.sort_unstable();
    Some(parts.join("."))
}

fn components(bonds: &[Vec<(Order, usize)>]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; bonds.len()];
    let mut parts = Vec::new();
    for start in 0..bonds.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut part = vec![start];
        let mut at = 0;
        while at < part.len() {
            for &(_, next) in &bonds[part[at]] {
                if !std::mem::replace(&mut seen[next], true) {
                    part.push(next);
                }
            }
            at += 1;
        }
        parts.push(part);
    }
    parts
}

/// Ranks of equal values are equal; they count the values below.
fn ranks<T: Ord>(values: &[T]) -> Vec<usize> {
    let mut sorted: Vec<&T> = values.iter().collect();
    sorted.sort_unstable();
    values.iter().map(|v| sorted.partition_point(|s| *s < v)).collect()
}

/// Atoms are ranked by label and distances, then by their neighbours' ranks until nothing changes (Morgan 1965); of
/// those that still tie, which are alike in practice, one is put first.
fn write_part(labels: &[Label], bonds: &[Vec<(Order, usize)>], part: &[usize]) -> String {
    let place: std::collections::HashMap<usize, usize> =
        part.iter().enumerate().map(|(i, &a)| (a, i)).collect();
    let near = |i: usize| bonds[part[i]].iter().map(|&(order, next)| (order, place[&next]));
    let distances = |from: usize| {
        let mut far = vec![usize::MAX; part.len()];
        far[from] = 0;
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for (_, next) in near(at) {
                if far[next] == usize::MAX {
                    far[next] = far[at] + 1;
                    queue.push_back(next);
                }
            }
        }
        far.sort_unstable();
        far
    };
    let first: Vec<_> = (0..part.len()).map(|i| (labels[part[i]], distances(i))).collect();
    let mut rank = ranks(&first);
    let classes = |rank: &[usize]| rank.iter().collect::<std::collections::BTreeSet<_>>().len();
    loop {
        loop {
            let around: Vec<_> = (0..part.len())
                .map(|i| {
                    let mut around: Vec<_> = near(i).map(|(order, next)| (order, rank[next])).collect();
                    around.sort_unstable();
                    (rank[i], around)
                })
                .collect();
            let next = ranks(&around);
            let stable = classes(&next) == classes(&rank);
            rank = next;
            if stable {
                break;
            }
        }
        let tied = (0..part.len()).filter(|&i| rank.iter().filter(|&&r| r == rank[i]).count() > 1);
        let Some(chosen) = tied.min_by_key(|&i| rank[i]) else { break };
        let doubled: Vec<_> = (0..part.len()).map(|i| (rank[i], i != chosen)).collect();
        rank = ranks(&doubled);
    }
    let mut order: Vec<usize> = (0..part.len()).collect();
    order.sort_unstable_by_key(|&i| rank[i]);
    let mut text = String::new();
    for &i in &order {
        let (number, charge, aromatic, pair) = labels[part[i]];
        let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
        text += &format!("{number}{charge:+}{}{}", mark(aromatic, "a"), mark(pair, "p"));
        let mut back: Vec<_> = near(i).filter(|&(_, next)| rank[next] < rank[i]).collect();
        back.sort_unstable_by_key(|&(_, next)| rank[next]);
        for (bond, next) in back {
            text += &format!("({}{})", bond as u8, rank[next]);
        }
        text.push(',');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        scaffold(&Molecule::parse(text).unwrap()).unwrap()
    }

    fn whole(text: &str) -> String {
        canonical(&Molecule::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn side_chains_go_linkers_and_doubly_bonded_atoms_stay() {
        assert_eq!(of("CC(=O)Oc1ccccc1C(=O)O"), whole("c1ccccc1"));
        assert_eq!(of("c1ccccc1CCNC(C)c1ccncc1"), whole("c1ccccc1CCNCc1ccncc1"));
        assert_eq!(of("O=C1CCCCC1C"), whole("O=C1CCCCC1"));
        assert_eq!(of("c1ccccc1C(=O)Nc1ccccc1"), whole("c1ccccc1C(=O)Nc1ccccc1"));
        assert_ne!(of("O=C1CCCCC1"), of("C1CCCCC1"));
        assert_eq!((of("CCCC(=O)O"), of("")), (String::new(), String::new()));
    }

    #[test]
    fn a_substituted_nitrogen_counts_as_one_with_a_hydrogen() {
        assert_eq!(of("Cn1cccc1"), of("c1cc[nH]c1"));
        assert_eq!(of("CN1C=CC=C1"), of("c1cc[nH]c1"));
        assert_ne!(of("Cn1nccn1"), of("Cn1ccnn1"));
    }

    #[test]
    fn a_writing_does_not_matter() {
        assert_eq!(whole("c1ccccc1c1ccccc1"), whole("c1ccc(-c2ccccc2)cc1"));
        assert_eq!(whole("C1CC2CCC1CC2"), whole("C12CCC(CC1)CC2"));
        assert_eq!(whole("OCC.[Na+]"), whole("[Na+].C(O)C"));
        assert_eq!(whole("C1=CCCCC1"), whole("C1CCCC=C1"));
    }

    #[test]
    fn graphs_that_refinement_alone_cannot_tell_apart_are_told_apart() {
        // Decalin and bicyclopentyl.
        assert_ne!(whole("C1CCC2CCCCC2C1"), whole("C1CCCC1C1CCCC1"));
    }

    #[test]
    fn a_graph_too_large_for_one_writing_is_left_alone() {
        assert_eq!(canonical(&Molecule::parse(&"C".repeat(501)).unwrap()), None);
        assert!(canonical(&Molecule::parse(&"C".repeat(500)).unwrap()).is_some());
    }
}
