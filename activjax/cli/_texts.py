"""What the commands say of themselves."""

from activjax.runs.errors import EXIT_CODES

EXAMPLES = """\
examples:
  activjax run configs/quickstart.yaml            run it, or continue it, or show that it is done
  activjax run my.yaml lr=0.01 model.width=64     the same with other values: another run
  activjax run my.yaml seeds=2 steps=50           a quick look
  activjax sweep my.yaml --dry-run                cells, programs, memory and time of its sweep
  activjax sweep my.yaml                          all cells of its `sweep:` section
  activjax keys my.yaml                           what may stand in the file, with ranges and help
  activjax ls                                     all runs below ./runs
  activjax show 3f2a                              the run whose id begins with 3f2a
  activjax serve                                  a page to browse them all
  activjax codes 3f2a                             a page to browse the codes of its bottlenecks
  activjax verify net.onnx prop.vnnlib            prove a property of a network, or break it
"""

RUN = """\
Run the experiment that CONFIG names. Every run gets the folder <out>/<name>/<id>; the id is a
hash of the config and the sources, so the same command finds the same folder: a run that is done
is shown, a run that was interrupted continues from its last checkpoint with the same numbers.

  Ctrl-C        stops at the next safe point and says how to continue
  Ctrl-C twice  stops at once
"""


SWEEP = """\
Run all cells of a sweep: every point of the config's `sweep:` section with every seed. Cells of
equal static shape share one compiled program; worker processes, each on cores of its own, take one
program after another. Killed at any moment, the same command runs exactly the missing cells.
"""


LS = """\
List runs and sweeps (state, name, id, age, answer), or the cells of one sweep:

  activjax ls                        everything below ./runs
  activjax ls hash_phase width=32    cells of a sweep
  activjax ls hash_phase --failed    what went wrong
"""
CODES = """\
Write the page of a run whose experiment indexed the codes of its bottlenecks: one HTML file that
opens offline. It shows how each code is used, where, with what, and what it does to the output;
tokens by codebooks; a search by regular expression; steered texts; labels to write and save.
"""
VERIFY = """\
Look for an input in the boxes of a VNN-LIB property (1.0 or 2.0) whose outputs are unsafe, or prove
that there is none. The first line is VNN-COMP's word, the rest goes to stderr:

  unsat    the property holds: no input is unsafe
  sat      an input is unsafe; its values and outputs follow: ((X_0 0.5) ... (Y_0 -1.0))
  unknown  the time ended

The exit code is 0 for all three: VNN-COMP's scripts read the word, and take any other code as an
error of the tool.
"""
CHECK = """\
Prove again what a proof says (APTP text, of `activjax verify --proof` or of others), exactly and
without any of the search: `proved` with exit code 0, or `not proved` with exit code 1.
"""
SEARCH = """\
Run the trials of the config's `search:` section: each is a point of the space with every seed, and
its cells are those of a sweep. Killed at any moment, the same command goes on as it would have;
with more trials (search.trials=80) it goes on from those that there are.
"""
TRACK = """\
Send trackers what a run or a sweep has and they have not been sent yet. All of it stays on this
machine, in the folder's `tracked/`, unless MLFLOW_TRACKING_URI or WANDB_MODE says otherwise.
"""
SERVE = """\
Serve a page over all runs and sweeps below a folder, to this machine only: progress, tables to sort
and filter, plots along axes, parallel coordinates, comparisons, curves of what is running. It only
looks: nothing in the folder is written. Ctrl-C ends it.

  activjax serve                     everything below ./runs
  activjax serve /data/runs --open   of another folder, in the default browser
"""
WHICH = "its folder, the beginning of its id, or its name"
EXITS = "exit codes:\n" + "\n".join(f"  {code:3d}  {text}" for code, text in EXIT_CODES.items())
