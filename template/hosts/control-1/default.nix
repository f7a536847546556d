{
  hatrack.host.address = "10.0.0.1";
  system.stateVersion = "26.05";
}
