# The type of an IP address without a mask.
{ lib }:
let
  octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  v4 = "${octet}([.]${octet}){3}";
  # Groups are not counted: what is none after all is found when the address is first used.
  v6 = "[0-9a-fA-F]{0,4}:[0-9a-fA-F]{0,4}:[0-9a-fA-F:]*(${v4})?";
in
lib.types.strMatching "(${v4}|${v6})"
// {
  description = "IP address without a mask, as a string";
}
