use super::workspace::Workspace;

/// The most memory that a child process has had, in bytes, and how it ended.
/// The pages of the program itself do not count: a debug build has 60 MB of them.
pub(crate) fn peak_of(workspace: &Workspace, args: &[&str]) -> (i64, String) {
    let mut child = workspace
        .process(args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kb = line.split_whitespace().next()?;
            Some(kb.parse::<i64>().unwrap() * 1024)
        };
        if let (Some(all), Some(program)) = (bytes("VmHWM:"), bytes("RssFile:")) {
            peak = peak.max(all - program);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (peak, reader.join().unwrap())
}
