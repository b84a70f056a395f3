//! What starts a server again whose disk failed it, as whatever looks after processes on a real machine does.

use std::time::Duration;

use super::Runner;
use super::hosts::End;
use crate::scenario::Ending;
use crate::trace::Event;

/// How long after its end a server starts again.
const PAUSE: Duration = Duration::from_millis(300);

impl Runner<'_> {
    /// Clears up after servers that ended because their disk gave them an error, and starts them again after a while,
    /// however often. So it is with one that has no room to begin with its work; one that was at it has to bear that its
    /// disk is full. Any other end is left alone: it fails the run.
    pub(super) fn look_after_servers(&mut self) {
        let now = self.sim.elapsed();
        for at in self.hosts.servers() {
            let host = self.hosts.at(at);
            if host.restart_at.is_some_and(|due| due <= now) {
                host.restart_at = None;
                self.bring_up(at);
                continue;
            }
            let blames_disk = matches!(*host.ended.borrow(), Some(Err(Ending::Disk(_))));
            // It tells where it stands once it has begun, and again when it has set aside what it had and begins anew.
            let standing = self.context.last_observed(host.index, "standing");
            let at_work = standing.is_some_and(|told| !told.starts_with("incarnation=none"));
            let to_blame =
                host.drive.as_ref().is_some_and(|drive| drive.has_failed() || (drive.has_been_full() && !at_work));
            if blames_disk && to_blame && host.down == 0 {
                let ended = host.ended.take();
                host.restart_at = Some(now + PAUSE);
                let (name, text) = (host.name.clone(), ended.and_then(Result::err).map(|why| why.to_string()));
                let text = text.unwrap_or_default();
                self.context
                    .trace_as(&name, &Event { kind: "host.disk_failed", subject: "", fields: &[], text: &text });
                self.take_down(at, End::Killed);
            }
        }
    }
}
