# What is built with these flags says nothing of the machine that built it. Not executed, but read by scripts that have what is
# handed out built, or the tests: there it saves compiling everything a second time for the tests of what is handed out.

# Appends them to what was given. Reading it again changes nothing.
leave_out_paths() {
    local path flag flags separator=$'\x1f'
    # Where source files are on this machine, and what the program says instead (in the message of a panic). Of several that
    # fit, the last one counts.
    local paths=(
        "$PWD=."
        "${CARGO_TARGET_DIR:-$PWD/target}=target"
        "${CARGO_HOME:-$HOME/.cargo}=/cargo"
        "$("${RUSTC:-rustc}" --print sysroot)=/rust"
    )
    # A path may contain blanks, so the flags are passed in Cargo's own encoding. They replace those of RUSTFLAGS.
    flags=${CARGO_ENCODED_RUSTFLAGS-}
    for flag in ${RUSTFLAGS-}; do flags+=${flags:+$separator}$flag; done
    for path in "${paths[@]}"; do
        flag=--remap-path-prefix=$path
        [[ $separator$flags$separator == *"$separator$flag$separator"* ]] || flags+=${flags:+$separator}$flag
    done
    export CARGO_ENCODED_RUSTFLAGS=$flags
    unset RUSTFLAGS

    # C code, which only the feature tls brings along. (Compilers for C split these words at blanks.)
    flags=" ${CFLAGS-} "
    [[ $flags == *" -fstack-protector-strong "* ]] || flags+="-fstack-protector-strong "
    for path in "${paths[@]}"; do
        flag=-ffile-prefix-map=$path
        [[ $path == *[[:blank:]]* || $flags == *" $flag "* ]] || flags+="$flag "
    done
    flags=${flags# }
    export CFLAGS=${flags% }
}
leave_out_paths
