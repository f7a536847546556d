# What no service of hatrack needs: neither a capability, nor a device, nor a place to write but its own folders.
#
# `systemd-analyze security` must count less than 2.0 for each (tests/nix/verify). What it goes on counting is needed: the
# network, to reach the API server wherever it is (PrivateNetwork=, IPAddressDeny=, AF_INET, AF_INET6); Unix sockets, by which
# the service manager hears that a service is up; the host's files, where programs and configuration lie (RootDirectory=).
# The system calls of @resources set limits of the process itself, which allocators and runtimes do.
{
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  DevicePolicy = "closed";
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  NoNewPrivileges = true;
  PrivateTmp = true;
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  ProtectProc = "invisible";
  ProtectSystem = "strict";
  RemoveIPC = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  SystemCallFilter = [
    "@system-service"
    "~@privileged"
  ];
}
