"""All commands with their modules, help and examples; this module is fast to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Description of a command, available before its module is imported.

    Attributes
    ----------
    place : str
        ``module:function`` in this package.
    help : str
        One sentence for the list of commands and for the command's help page.
    examples : tuple of str
        Command lines for the command's help page, without the program's name.
    aliases : tuple of str
        Alternative names of the command.
    """

    place: str
    help: str
    examples: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


COMMANDS = {
    "demo": Command(
        "demo:demo",
        "Restore a simulated noisy foam; report its porosity before and after.",
        ("demo --out demo", "demo --out demo --show"),
    ),
    "restore": Command(
        "restore:restore",
        "Denoise or super-resolve a volume with a model, tile by tile.",
        (
            "restore scan.tif -o clean.ome.tif",
            "restore scan.tif -m auto -o clean.ome.tif --strict",
            "restore part.tif -m foam-sr-x2 --uncertainty tta -o fine.ome.tif",
            "restore scan.tif --noise-region air.tif -o clean.ome.tif",
        ),
    ),
    "explain": Command(
        "explain:explain",
        "Show which voxels of a scan determine a voxel or pore of the restored volume.",
        (
            "explain scan.tif -m foam-denoise --at 12,32,32 -o why",
            "explain scan.tif -m foam-denoise --pores report/pores.csv -o why",
            "explain scan.tif -m foam-sr-x2 --at 24,64,64 --method filter,lam -o why",
        ),
    ),
    "segment": Command(
        "segment:segment",
        "Segment a scan from a few painted strokes.",
        (
            "segment scan.tif --labels painted.tif -o classes.ome.tif",
            "segment scan.tif --labels painted.tif --model prior -o classes.ome.tif",
            "segment scan.tif -l painted.tif -p probabilities.ome.tif "
            "-o classes.ome.tif",
        ),
    ),
    "measure": Command(
        "measure:measure",
        "Segment the pores, count and measure them; write JSON, CSV, PNG and HTML.",
        (
            "measure clean.ome.tif -o report",
            "measure clean.ome.tif --reference scan.tif -o report",
            "measure clean.ome.tif --threshold 120 --phase dark -o report",
        ),
    ),
    "plan": Command(
        "plan:plan",
        "Plan the number, size and positions of scans to measure porosity precisely.",
        (
            "plan coarse.tif --spot 200um --precision 5% -o plan",
            "plan spot.tif --scan spot --spot 300um --precision 5% -o plan",
        ),
    ),
    "compare": Command(
        "compare:compare",
        "Compare volumes of the same object: grey values, noise, resolution and pores.",
        (
            "compare scan.tif clean.ome.tif -o comparison",
            "compare coarse.tif fine.ome.tif --reference truth.tif -o comparison",
            "compare scan.tif clean.tif --fsc halves odd.tif even.tif -o comparison",
        ),
    ),
    "reconstruct": Command(
        "reconstruct:reconstruct",
        "Reconstruct a volume from projections, block by block.",
        (
            "reconstruct scan.h5 -o volume.ome.tif",
            "reconstruct scan.h5 -o volume.ome.tif --stripes sorting --filter hann",
            "reconstruct few.h5 -o volume.ome.tif --algorithm sirt",
            "reconstruct scan.h5 -o odd.ome.tif --half odd",
        ),
    ),
    "sim": Command(
        "sim:app",
        "Reconstruct or check raw frames of structured illumination (SIM).",
    ),
    "pairs": Command(
        "data.pairs:pairs",
        "Make training pairs for super-resolution from two scans, or from one.",
        (
            "pairs --low part.tif --high spot.tif -o pair",
            "pairs --high spot.tif --degrade ct --upscale-factor 4 -o pair",
        ),
    ),
    "simulate": Command(
        "data.simulate:app",
        "Simulate scans of known porosity, raw SIM frames, radiographs or skulls.",
    ),
    "generate": Command(
        "data.generate:generate",
        "Generate images or volumes with a diffusion model; they are not measurements.",
        (
            "generate prior --number 16 -o generated",
            "generate prior --number 4 --shape 64,64,64 --seed 1 -o generated",
        ),
    ),
    "info": Command(
        "info:info",
        "Show the axes, voxel size, origin, noise and other properties of a file.",
        (
            "info scan.tif",
            "info scan.tif --noise",
            "info scan1.tif --noise --second scan2.tif",
        ),
    ),
    "doctor": Command(
        "doctor:doctor",
        "Show installed packages, available devices and free memory.",
        ("doctor", "doctor --json"),
    ),
    "train": Command("train:app", "Train a model on your own data."),
    "study": Command(
        "study:app",
        "Find how few projections or labelled slices still give correct results.",
    ),
}

#: Examples in the help of the program and of its groups, keyed by group name.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "demo --out demo",
        "restore scan.tif -m auto -o clean.ome.tif",
        "measure clean.ome.tif --reference scan.tif -o report",
    ),
    "jobs": ("jobs list", "jobs show job", "jobs resume job"),
    "models": (
        "models list",
        "models show ct-denoise",
        "models rank scan.tif",
    ),
    "profiles": (
        "profiles new mine",
        "profiles test mine --folder /bettik/me/scans",
    ),
    "sim": (
        "sim raw.ome.tif -o sim.ome.tif",
        "sim raw.tif --na 1.49 --wavelength 525nm --pixel 65nm --method wiener "
        "-o sim.ome.tif",
        "sim check raw.ome.tif -o check",
    ),
    "sim check": (
        "sim check raw.ome.tif -o check",
        "sim check raw.tif --na 1.49 --wavelength 525nm --pixel 65nm -o check",
    ),
    "simulate": (
        "simulate bone --projections 250 --photons 2e4 -o bone",
        "simulate sim --structure filaments --snr 20 -o frames",
        "simulate radiographs --number 600 -o radiographs",
        "simulate skulls --number 50 --shape 256 -o skulls",
    ),
    "simulate radiographs": (
        "simulate radiographs --number 600 -o radiographs",
        "simulate radiographs --number 60 --painted 1 --seed 1 -o few",
    ),
    "simulate skulls": (
        "simulate skulls --number 50 --shape 256 -o skulls",
        "simulate skulls --defects cylinder --seed 7 -o holes",
    ),
    "simulate sim": (
        "simulate sim --structure filaments --snr 20 -o frames",
        "simulate sim --nonlinear saturated --phase-error 3 -o frames",
    ),
    "submit": (
        "submit restore scan.tif -o clean.ome.zarr --queue slurm --dry-run",
        "submit measure clean.ome.zarr -o report --profile mine",
    ),
    "study": (
        "study projections scan.h5 -o study",
        "study labels --source scan.tif --labels painted.tif -o study",
    ),
    "study projections": (
        "study projections scan.h5 -o study",
        "study projections scan.h5 --counts 50,100,200 --algorithms fbp,sirt -o study",
    ),
    "study labels": (
        "study labels --source scan.tif --labels painted.tif --counts 1,2,5 -o study",
        "study labels --source scan.tif --labels all.tif --start-from prior -o study",
    ),
    "shapes": (
        "shapes refine coarse.tif --upscale-factor 4 -o fine.ome.tif",
        "shapes complete skull.nii.gz -o whole.ome.tif --mesh implant.stl",
        "shapes compare result.tif truth.tif --tolerance 0.5mm",
    ),
    "train": (
        "train --list",
        "train noise2void --source scan.tif -o job",
        "train noise2noise --source scan1.tif --target scan2.tif -o job",
    ),
}

#: Commands by group, with the help text of each group.
GROUPS: dict[str, tuple[str, dict[str, Command]]] = {
    "jobs": (
        "List, watch, stop and resume jobs (training and other long runs).",
        {
            "list": Command(
                "jobs.manage:list_jobs",
                "List the jobs on this computer, newest first.",
                ("jobs list", "jobs list --json"),
            ),
            "show": Command(
                "jobs.manage:show_jobs",
                "Show a job: state, steps, losses, settings and result.",
                ("jobs show job", "jobs show job --json"),
            ),
            "watch": Command(
                "jobs.manage:watch_jobs",
                "Follow a running job until it ends.",
                (
                    "jobs watch job",
                    "jobs watch job --json",
                    "jobs watch job --host me@login",
                ),
            ),
            "preview": Command(
                "jobs.preview:preview_jobs",
                "Write a small preview of what a job has computed so far.",
                (
                    "jobs preview job -o preview.tif",
                    "jobs preview job -o preview.tif --host me@login",
                ),
            ),
            "stop": Command(
                "jobs.manage:cancel_jobs",
                "Stop a job on this computer or in a cluster's queue; finished work is "
                "kept.",
                ("jobs stop job", "jobs stop 12345"),
                aliases=("cancel",),
            ),
            "resume": Command(
                "jobs.manage:resume_jobs",
                "Resume a job that was paused, cancelled or killed, or that failed.",
                (
                    "jobs resume job",
                    "jobs resume job --steps 5000 --detach",
                    "jobs resume job --walltime 12h",
                ),
            ),
            "repair": Command(
                "jobs.repair:repair_jobs",
                "Find and recompute the damaged parts of a job's OME-Zarr result.",
                ("jobs repair clean.job", "jobs repair clean.job --json"),
            ),
            "remove": Command(
                "jobs.manage:remove_jobs",
                "Delete a job's folder. First copy any results that you need.",
                ("jobs remove job", "jobs remove job --force"),
            ),
        },
    ),
    "submit": (
        "Run a command on a cluster (SLURM, OAR); --dry-run only shows the script.",
        {
            "restore": Command(
                "submit.restore:restore",
                "Restore a volume on a cluster.",
                (
                    "submit restore scan.tif -o clean.ome.zarr --queue slurm --dry-run",
                    "submit restore scan.tif -o clean.ome.zarr --profile mine",
                    "submit restore scan.tif -o clean.ome.tif --profile gricad "
                    "--project pr-x",
                ),
            ),
            "reconstruct": Command(
                "submit.reconstruct:reconstruct",
                "Reconstruct a volume from projections on a cluster.",
                (
                    "submit reconstruct scan.h5 -o volume.ome.tif --queue slurm",
                    "submit reconstruct scan.h5 -o volume.ome.tif --profile mine",
                ),
            ),
            "measure": Command(
                "submit.measure:measure",
                "Measure the pores of a volume on a cluster.",
                (
                    "submit measure clean.ome.tif -o report --queue slurm --mem 64GB",
                    "submit measure clean.ome.tif -o report --profile mine",
                ),
            ),
            "sim": Command(
                "submit.sim:sim",
                "Reconstruct raw frames of structured illumination on a cluster.",
                (
                    "submit sim raw.tif --na 1.4 --wavelength 525nm -o sim.ome.tif "
                    "--queue slurm",
                    "submit sim raw.tif --method pinn -o sim.ome.tif --profile mine",
                ),
            ),
            "segment": Command(
                "submit.segment:segment",
                "Segment a scan from painted labels on a cluster.",
                (
                    "submit segment scan.tif --labels painted.tif -o classes.ome.tif "
                    "--queue slurm",
                    "submit segment scan.tif -l painted.tif -o classes.ome.tif "
                    "-p probabilities.ome.tif --profile mine",
                ),
            ),
            "shapes": Command(
                "submit.shapes:shapes",
                "Refine, complete or segment a shape on a cluster.",
            ),
            "train": Command("submit.train:train", "Train a model on a cluster."),
            "study": Command("submit.study:study", "Run a study on a cluster."),
        },
    ),
    "profiles": (
        "Save a cluster's queue, project and resources as a named profile.",
        {
            "list": Command(
                "jobs.profiles:list_profiles",
                "List your own profiles and the templates.",
                ("profiles list", "profiles list --json"),
            ),
            "new": Command(
                "jobs.profiles:new_profiles",
                "Create a profile from options, or by answering questions in a "
                "terminal.",
                (
                    "profiles new mine",
                    "profiles new mine --template gricad --project pr-x --gpus 1",
                ),
            ),
            "show": Command(
                "jobs.profiles:show_profiles",
                "Show the settings of a profile.",
                ("profiles show gricad", "profiles show mine --json"),
            ),
            "test": Command(
                "jobs.profiles:probe_profiles",
                "Submit a small job to check that the nodes can access a folder and "
                "start napari-geosr.",
                (
                    "profiles test mine",
                    "profiles test mine --folder /bettik/me/scans",
                ),
            ),
        },
    ),
    "models": (
        "List, show, rank, calibrate, import, export and remove models.",
        {
            "list": Command(
                "models:list_models",
                "List the bundled models and your own.",
                ("models list", "models list --task super-resolution"),
            ),
            "show": Command(
                "models:show_models",
                "Show the intended use, the limitations and the measured quality of a "
                "model.",
                (
                    "models show ct-denoise",
                    "models show job",
                    "models show ct-denoise --json",
                ),
            ),
            "rank": Command(
                "models:rank_models",
                "Rank models by their expected error on a scan, without ground truth.",
                ("models rank scan.tif", "models rank scan1.tif --second scan2.tif"),
            ),
            "calibrate": Command(
                "models:calibrate_models",
                "Calibrate the porosity interval of one of your own models.",
                (
                    "models calibrate my-model --source scan*.tif --target object*.tif",
                    "models calibrate job --source simulated:foam-coarse-4:96-135 "
                    "--target simulated:foam-coarse-4-object:96-135 "
                    "--uncertainty diffusion",
                ),
            ),
            "verify": Command(
                "models:verify_models",
                "Check that a model is complete and undamaged, and matches its card.",
                ("models verify my-model", "models verify my-model.zip --json"),
            ),
            "import": Command(
                "models:import_models",
                "Import a model from another program, without running its code.",
                (
                    "models import dncnn_25.pth --name dncnn",
                    "models import downloaded.zip",
                ),
            ),
            "export": Command(
                "models:export_models",
                "Export a model for other programs and check that it gives the same "
                "results.",
                (
                    "models export ct-denoise --format onnx -o ct-denoise.onnx",
                    "models export foam-denoise --format onnx --like scan.tif "
                    "-o foam.onnx",
                ),
            ),
            "remove": Command(
                "models:remove_models",
                "Delete one of your own models.",
                ("models remove dncnn", "models remove my-model"),
            ),
        },
    ),
    "shapes": (
        "Refine, segment, complete and compare shapes; convert them to meshes.",
        {
            "complete": Command(
                "shapes:complete",
                "Predict the missing part of a shape, such as a skull (experimental).",
                (
                    "shapes complete skull.nii.gz -o whole.ome.tif",
                    "shapes complete skull.nii.gz -o whole.ome.tif "
                    "--implant part.ome.tif --mesh part.stl",
                ),
            ),
            "refine": Command(
                "shapes:refine",
                "Increase the resolution of a shape 2, 4 or 8 times.",
                (
                    "shapes refine coarse.tif -o fine.ome.tif",
                    "shapes refine coarse.tif --upscale-factor 8 -o fine.ome.tif "
                    "--memory 4GB",
                    "shapes refine coarse.tif --model trilinear -o fine.ome.tif",
                ),
            ),
            "segment": Command(
                "shapes:segment",
                "Segment a scan inside a mask, or above or below a grey value; memory "
                "use depends on the number of voxels segmented.",
                (
                    "shapes segment scan.tif --mask mask.tif --model job "
                    "-o labels.ome.tif",
                    "shapes segment scan.ome.zarr --mask mask.ome.zarr --model job "
                    "--memory 4GB -o labels.ome.zarr",
                    "shapes segment scan.tif --above otsu --model job -o labels.tif",
                ),
            ),
            "compare": Command(
                "shapes:compare",
                "Compare two shapes: overlap, surface distances, volume, topology.",
                (
                    "shapes compare result.tif truth.tif",
                    "shapes compare result.tif truth.tif --tolerance 0.5mm --json",
                ),
            ),
            "mesh": Command(
                "shapes:mesh",
                "Write the closed surface of a shape as a mesh, in mm.",
                (
                    "shapes mesh fine.ome.tif -o surface.stl",
                    "shapes mesh labels.tif --label 2 -o surface.ply --faces 50000",
                ),
            ),
            "voxelise": Command(
                "shapes:voxelise",
                "Fill a closed mesh with voxels.",
                (
                    "shapes voxelise part.stl --voxel-size 0.4 -o part.ome.tif",
                    "shapes voxelise grain.ply --voxel-size 5 --unit um -o grain.tif",
                ),
            ),
            "simulate": Command(
                "shapes:simulate",
                "Simulate skull-like shapes with and without a missing part.",
                (
                    "shapes simulate --number 50 --shape 256 -o skulls",
                    "shapes simulate --defects cylinder --seed 7 -o holes",
                ),
            ),
        },
    ),
}
