//! Which process of several this one is, as torchrun, Slurm or mpirun say it.

use std::env;

use crate::{Error, Result};

/// Port of the first rank where none is given, as PyTorch has it.
const PORT: u16 = 29_500;

/// Most ranks of one run.
const MOST: usize = 1_024;

/// This process among those that train one model together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Number of this process; the first one writes files and validates.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// Host and port where the first one listens; `None` for one alone.
    pub address: Option<(String, u16)>,
}

impl Ranks {
    /// One process alone.
    pub const ALONE: Self = Self { rank: 0, world: 1, address: None };

    /// From the environment: `RANK` and `WORLD_SIZE` (torchrun), `SLURM_PROCID` and `SLURM_NTASKS` (within srun),
    /// `OMPI_COMM_WORLD_RANK` and `_SIZE`, or `PMI_RANK` and `PMI_SIZE` (mpirun); `MASTER_ADDR` and `MASTER_PORT`.
    ///
    /// # Errors
    /// [`Error::Ranks`] where they contradict each other, or several ranks have no address to meet at.
    pub fn from_environment() -> Result<Self> {
        Self::from(&|name| env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let wrong = |got: String, expected: &str| Error::Ranks { got, expected: expected.into() };
        let number = |name: &str| {
            let parse =
                |v: String| v.parse::<usize>().map_err(|_| wrong(format!("{name}={v}"), "a whole number"));
            variable(name).map(parse).transpose()
        };
        // In a batch script outside of srun the variables speak of tasks that do not run yet.
        let slurm = variable("SLURM_STEP_ID").is_some();
        let sources = [
            ("RANK", "WORLD_SIZE", true),
            ("SLURM_PROCID", "SLURM_NTASKS", slurm),
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", true),
            ("PMI_RANK", "PMI_SIZE", true),
        ];
        let Some((of_rank, of_world, _)) =
            sources.into_iter().find(|(r, w, on)| *on && variable(r).is_some() && variable(w).is_some())
        else {
            return Ok(Self::ALONE);
        };
        let (rank, world) = (number(of_rank)?.unwrap_or(0), number(of_world)?.unwrap_or(1));
        if world == 0 || world > MOST || rank >= world {
            let expected = format!("a rank below the number of ranks, {MOST} ranks at most");
            return Err(wrong(format!("{of_rank}={rank} and {of_world}={world}"), &expected));
        }
        if world == 1 {
            return Ok(Self::ALONE);
        }
        let Some(host) = variable("MASTER_ADDR") else {
            let expected = "MASTER_ADDR, the address of the host of rank 0";
            return Err(wrong(format!("{world} ranks ({of_world}) and no MASTER_ADDR"), expected));
        };
        let port = match variable("MASTER_PORT") {
            None => PORT,
            Some(port) => {
                port.parse::<u16>().map_err(|_| wrong(format!("MASTER_PORT={port}"), "a port number"))?
            }
        };
        // torchrun's agent listens at MASTER_PORT itself.
        let taken = variable("TORCHELASTIC_RUN_ID").is_some();
        let port = port
            .checked_add(u16::from(taken))
            .ok_or_else(|| wrong("MASTER_PORT=65535".into(), "a lower port"))?;
        Ok(Self { rank, world, address: Some((host, port)) })
    }

    /// Number of this process among those of its machine, from `LOCAL_RANK` (torchrun), `SLURM_LOCALID` (within srun),
    /// `OMPI_COMM_WORLD_LOCAL_RANK` or `MPI_LOCALRANKID` (mpirun); 0 without any.
    ///
    /// # Errors
    /// [`Error::Ranks`] where it is no number.
    pub fn local_from_environment() -> Result<usize> {
        Self::local_from(&|name| env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn local_from(variable: &dyn Fn(&str) -> Option<String>) -> Result<usize> {
        let slurm = variable("SLURM_STEP_ID").is_some();
        let sources = [
            ("LOCAL_RANK", true),
            ("SLURM_LOCALID", slurm),
            ("OMPI_COMM_WORLD_LOCAL_RANK", true),
            ("MPI_LOCALRANKID", true),
        ];
        let found = sources.into_iter().filter(|(_, on)| *on).find_map(|(n, _)| Some((n, variable(n)?)));
        let Some((name, value)) = found else { return Ok(0) };
        value
            .parse()
            .map_err(|_| Error::Ranks { got: format!("{name}={value}"), expected: "a whole number".into() })
    }

    /// Whether this is the one that writes files and validates.
    pub const fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Refuses several ranks for a command that does not train.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn expect_alone(&self, command: &str) -> Result<()> {
        if self.world == 1 {
            return Ok(());
        }
        Err(Error::Ranks {
            got: format!("{} ranks for locus {command}", self.world),
            expected: "one process; locus pretrain and locus finetune run over several".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Ranks> {
        Ranks::from(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn every_launcher_is_understood() {
        let meet = ("MASTER_ADDR", "10.0.0.1");
        let two = |port| Ranks { rank: 1, world: 2, address: Some(("10.0.0.1".into(), port)) };
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), meet, ("MASTER_PORT", "4000")];
        assert_eq!(of(&torchrun).unwrap(), two(4000));
        let agent = [&torchrun[..], &[("TORCHELASTIC_RUN_ID", "x")]].concat();
        assert_eq!(of(&agent).unwrap(), two(4001));
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2"), meet];
        assert_eq!(of(&slurm).unwrap(), Ranks::ALONE, "a batch script is not a task");
        assert_eq!(of(&[&slurm[..], &[("SLURM_STEP_ID", "0")]].concat()).unwrap(), two(29_500));
        for (rank, world) in [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")] {
            assert_eq!(of(&[(rank, "1"), (world, "2"), meet]).unwrap(), two(29_500));
        }
        assert_eq!(of(&[]).unwrap(), Ranks::ALONE);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), Ranks::ALONE);
    }

    #[test]
    fn a_process_knows_its_number_on_its_machine() {
        let of = |variables: &[(&str, &str)]| {
            Ranks::local_from(&|name| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        assert_eq!(of(&[]).unwrap(), 0);
        assert_eq!(of(&[("LOCAL_RANK", "3"), ("RANK", "11")]).unwrap(), 3);
        assert_eq!(of(&[("SLURM_LOCALID", "2")]).unwrap(), 0, "a batch script is not a task");
        assert_eq!(of(&[("SLURM_LOCALID", "2"), ("SLURM_STEP_ID", "0")]).unwrap(), 2);
        assert_eq!(of(&[("OMPI_COMM_WORLD_LOCAL_RANK", "1")]).unwrap(), 1);
        assert_eq!(of(&[("MPI_LOCALRANKID", "1")]).unwrap(), 1);
        assert!(matches!(of(&[("LOCAL_RANK", "x")]), Err(Error::Ranks { .. })));
    }

    #[test]
    fn ranks_that_cannot_be_are_refused() {
        for variables in [
            &[("RANK", "2"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "h")][..],
            &[("RANK", "x"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "h")],
            &[("RANK", "0"), ("WORLD_SIZE", "0"), ("MASTER_ADDR", "h")],
            &[("RANK", "0"), ("WORLD_SIZE", "99999"), ("MASTER_ADDR", "h")],
            &[("RANK", "0"), ("WORLD_SIZE", "2")],
            &[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "h"), ("MASTER_PORT", "70000")],
        ] {
            assert!(matches!(of(variables), Err(Error::Ranks { .. })), "{variables:?}");
        }
        assert!(Ranks::ALONE.expect_alone("prepare").is_ok());
    }
}
