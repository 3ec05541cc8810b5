//! The control groups that a run can have made: those with our name below its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::leaks::{entries, name_of};

/// In every hierarchy that is mounted, be it of version 1 or 2, by the lines of the mount table.
pub(super) fn cgroups(mounts: &BTreeSet<String>) -> BTreeSet<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    folders(mounts, &table)
        .iter()
        .flat_map(|folder| entries(folder))
        .filter(|path| path.is_dir() && name_of(path).contains("podlab"))
        .collect()
}

/// Where the groups are to be found that `table`, a process's `/proc/PID/cgroup`, says it is in.
/// Which hierarchy a mount shows is not worked out: what is no group of it leads nowhere.
fn folders(mounts: &BTreeSet<String>, table: &str) -> BTreeSet<PathBuf> {
    // `HIERARCHY:CONTROLLERS:PATH`, see cgroups(7).
    let own = table.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let own: BTreeSet<&Path> = own.map(Path::new).collect();
    let hierarchies = mounts.iter().filter_map(|mount| {
        // ID PARENT DEVICE ROOT POINT … - KIND …, see proc_pid_mountinfo(5).
        let (mount, rest) = mount.split_once(" - ")?;
        let mut columns = mount.split(' ').skip(3).map(Path::new);
        let (root, point) = (columns.next()?, columns.next()?);
        rest.starts_with("cgroup").then_some((root, point))
    });
    hierarchies
        .flat_map(|(root, point)| {
            let below = own.iter().filter_map(|path| path.strip_prefix(root).ok());
            below.map(|path| point.join(path)).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const UNIFIED: &str = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    const HYBRID: &str = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    const MEMORY: &str = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    const CONTAINER: &str = "33 30 0:26 /box/7 /sys/fs/cgroup ro - cgroup2 cgroup rw";

    #[rstest]
    #[case::unified(&[UNIFIED], "0::/user/1\n", &["/sys/fs/cgroup/user/1"])]
    #[case::root_group(&[HYBRID], "0::/\n", &["/sys/fs/cgroup/unified"])]
    #[case::both_versions(
        &[HYBRID, MEMORY],
        "4:memory:/a\n0::/a\n",
        &["/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/memory/a"]
    )]
    #[case::part_of_a_hierarchy(&[CONTAINER], "0::/box/7/inner\n", &["/sys/fs/cgroup/inner"])]
    #[case::none(&["22 1 254:1 / / rw - ext4 /dev/vda1 rw"], "0::/\n", &[])]
    fn own_groups_are_found_where_their_hierarchy_is_mounted(
        #[case] mounts: &[&str],
        #[case] table: &str,
        #[case] wanted: &[&str],
    ) {
        let mounts = mounts.iter().map(|&line| line.to_owned()).collect();
        let wanted = wanted.iter().map(PathBuf::from).collect();
        assert_eq!(folders(&mounts, table), wanted);
    }
}
