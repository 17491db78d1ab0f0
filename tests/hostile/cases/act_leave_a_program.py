# tries: to leave another program behind, its descriptors closed, started by the shell
# holds: nothing of it is alive when the notebook is judged
# kind: hostile

# %%
import subprocess

try:
    subprocess.Popen("nohup setsid sleep 61.5 > /dev/null 2>&1 &", shell=True, close_fds=True)
except OSError as error:
    print(error)
