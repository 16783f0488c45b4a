//! What root does by hand for the service is done as the service would do it: with its user and its rights, so that
//! nothing is left that it could not use.

use crate::cli::Failed;
use rustix::{
    fs::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Makes root the owner of the state, with the right to read everything and no other, and with the directories that are
/// missing. Everybody else stays who they are. To be called while there is one thread.
pub fn take(state: &Path, staging: &Path) -> Result<(), Failed> {
    let Ok(owner) = fs::metadata(state) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    super::prepare::make_missing(state, staging, state)?;
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    let own = CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() };
    set_keep_capabilities(true)
        .and_then(|()| set_thread_groups(&[gid]))
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .and_then(|()| set_capabilities(None, sets))
        .map_err(|errno| {
            Failed::new(1, format!("Cannot become the owner of {state:?}, as who the service runs: {errno}"))
        })
}
