#!/bin/sh
# Appends this machine's sensor readings to a CSV file as one line: time,name,value,name,value,...
#
#   read_sensor.sh FILE
#
# The sensors are read one after the other, and the line is written in several pieces, so two of these running at once
# garble each other's lines. Under a lock they do not:
#
#   resourcelock sensors run -- ./read_sensor.sh sensors.csv
#
# With READ_SENSOR_WAIT_FOR=PATH it waits in the middle of its line until PATH exists: a slow sensor, for tests.
set -eu

file=${1:?"usage: read_sensor.sh FILE"}
readings=0

reading() { # NAME VALUE
    printf ',%s,%s' "$1" "$2" >>"$file"
    readings=$((readings + 1))
}

# Thermal zones: the name is in `type`, the temperature in `temp`, in thousandths of a degree.
thermal() {
    for zone in /sys/class/thermal/thermal_zone*; do
        value=$(cat "$zone/temp" 2>/dev/null) || continue
        reading "${zone##*/}.$(cat "$zone/type")" "$value"
    done
}

# Monitoring chips: temperatures, fans, voltages.
monitors() {
    for input in /sys/class/hwmon/hwmon*/*_input; do
        value=$(cat "$input" 2>/dev/null) || continue
        chip=${input%/*}
        input=${input##*/}
        reading "${chip##*/}.${input%_input}" "$value"
    done
}

# Every Linux system has these.
load() {
    read -r one five fifteen _ </proc/loadavg
    reading load1 "$one"
    reading load5 "$five"
    reading load15 "$fifteen"
}

printf '%s' "$(date +%Y-%m-%dT%H:%M:%S)" >>"$file"
if [ -n "${READ_SENSOR_WAIT_FOR-}" ]; then
    until [ -e "$READ_SENSOR_WAIT_FOR" ]; do sleep 0.01; done
fi
thermal
monitors
[ "$readings" -gt 0 ] || load
printf '\n' >>"$file"
