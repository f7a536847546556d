# A configuration file that its own program accepts: what it would refuse is a build error. Where the program cannot run at
# build, it refuses at start.
{ lib, pkgs }:
package: file:
if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
  pkgs.runCommand file.name { } ''
    ${lib.getExe package} check ${file}
    cp ${file} $out
  ''
else
  file
