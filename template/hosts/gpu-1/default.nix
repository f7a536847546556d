{
  hatrack = {
    host.address = "10.0.0.7";
    agent.expects.gpus = 1;
    # nvidia-open for RTX 20 and newer, nvidia-closed for older cards, or amdgpu.
    gpu.driver = "nvidia-open";
  };
  system.stateVersion = "26.05";
}
