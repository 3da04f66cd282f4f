"""A module beside the experiment: part of its sources."""


def line_plot(out, name, values):
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot(values)
    out.figure(name, fig, caption="The loss falls.")
