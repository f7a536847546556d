polkit.addRule(function(action, subject) {
  if (action.id == "org.freedesktop.systemd1.manage-units" &&
      subject.user == "hatrack" &&
      /^hat@[a-z0-9]([-a-z0-9]*[a-z0-9])?\.target$/.test(action.lookup("unit")) &&
      ["start", "stop"].indexOf(action.lookup("verb")) >= 0) {
    return polkit.Result.YES;
  }
});
