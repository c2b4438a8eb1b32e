//! What `--help` prints.

const OPTIONS: &str = "\
Usage: coordinatool-client [OPTIONS]
       coordinatool-client SUBCOMMAND ...

Without options, shows the status of the server.

What to do:
  -Q, --queue          read requests from standard input, in the format of
                       Lustre's active_requests or actions, and queue them
      --fsname NAME    after -Q: the server refuses the requests unless it
                       serves this file system
      --lock           give no more work to movers
      --unlock         give work to movers again
      --lock-quit      give no more work, and stop the server once nothing runs
  -R, --recv           for debugging: take work and show it; the server gives it
                       to others when this client ends
      --drain          for debugging: take work and report it as done
  -V, --version        show the version
  -h, --help           show this help

Options:
  -c, --config FILE    configuration file (default: /etc/coordinatool.conf)
  -H, --host HOST      server
  -p, --port PORT      its port
  -I, --client-id ID   with -R and --drain: take the work of this mover
  -A, --archive ID     with -R and --drain: take work of this archive id only;
                       may be repeated
  -i, --iters N        after -R or --drain: end after N answers; 0 waits for none
      --timeout SEC    give up when the server cannot be reached for so long or
                       does not answer; default: try to connect for ever, wait
                       60 s for an answer
  -v, --verbose        log more; twice also shows every request in the status
  -q, --quiet          log less

Subcommands (`coordinatool-client SUBCOMMAND --help` says more):
";

/// The whole text.
pub fn text() -> String {
    let mut text = OPTIONS.to_owned();
    let others = [
        ("ha", "high availability of Lustre servers"),
        ("ca", "make certificates for servers, movers and clients"),
        ("psk", "make a pre-shared key for movers and clients"),
        ("help", "show this help"),
    ];
    let others = others.map(|(name, what)| (name.to_owned(), what.to_owned()));
    for (name, what) in super::hsm::subcommands().into_iter().chain(others) {
        text.push_str(&format!("  {name:<14} {what}\n"));
    }
    text
}
