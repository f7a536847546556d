# Content under LUKS, opened by the TPM of the machine; without its TPM the disk asks for the passphrase.
#
# nixos-anywhere brings the passphrase to /tmp/disk.key (--disk-encryption-keys). Register 7 measures Secure Boot: a disk
# that was taken out, or a machine whose Secure Boot was changed, does not open by itself.
name: content: {
  type = "luks";
  inherit name content;
  passwordFile = "/tmp/disk.key";
  settings = {
    allowDiscards = true;
    crypttabExtraOpts = [ "tpm2-device=auto" ];
  };
  postCreateHook = ''
    if [ -e /dev/tpmrm0 ]; then
      systemd-cryptenroll --unlock-key-file=/tmp/disk.key --tpm2-device=auto --tpm2-pcrs=7 "$device"
    fi
  '';
}
