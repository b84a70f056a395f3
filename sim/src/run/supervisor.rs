//! What starts a server again whose disk failed it, as whatever looks after processes on a real machine does.

use std::time::Duration;

use super::Runner;
use super::hosts::End;
use crate::scenario::Ending;
use crate::trace::Event;

/// How long after its end a server starts again.
const PAUSE: Duration = Duration::from_millis(300);

impl Runner<'_> {
    /// Clears up after servers that ended because their disk gave them an error or has no room, and starts them again after a while,
    /// however often. Any other end is left alone: it fails the run.
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
            let to_blame = host.drive.as_ref().is_some_and(crate::disk::Drive::has_failed);
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
