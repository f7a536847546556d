# The manifest of one machine, in the order in which a person reads it.
{ lib }:
config:
let
  inherit (config.hatrack) agent gpu host;
  line = key: value: lib.optional (value != null) "  ${key}: ${toString value}";
  expects = lib.filterAttrs (_: count: count != null) agent.expects;
in
lib.concatLines (
  [
    "apiVersion: society.zeta.io/v1alpha1"
    "kind: ClusterNode"
    "metadata:"
    "  name: ${host.name}"
    "  labels:"
    "    society.zeta.io/class: ${host.class}"
  ]
  # By it the rules of hats know that these GPUs are given to pods.
  ++ lib.optional (
    gpu.driver != null && gpu.allocator == "device-plugin"
  ) "    society.zeta.io/gpu-allocator: device-plugin"
  ++ [
    "spec:"
    "  class: ${host.class}"
  ]
  ++ line "profile" host.profile
  ++ line "hardwareID" host.hardwareId
  ++ lib.optional (expects != { }) "  expects:"
  ++ lib.mapAttrsToList (kind: count: "    ${kind}: ${toString count}") expects
)
