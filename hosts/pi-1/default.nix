# A Raspberry Pi 5 with a Coral on USB.
{
  hatrack = {
    host.address = "10.0.0.31";
    agent.expects.accelerators = 1;
    coral.usb = true;
  };
  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
