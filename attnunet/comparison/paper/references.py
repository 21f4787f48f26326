"""The literature that the text for a paper may cite. A key is what stands in the text, as in the catalog of metrics."""

REFERENCES = {
    # Data.
    "Buda et al. 2019": "Buda M, Saha A, Mazurowski MA. Association of genomic subtypes of lower-grade gliomas with shape "
    "features automatically extracted by a deep learning algorithm. Computers in Biology and Medicine 2019;109:218-225. "
    "doi 10.1016/j.compbiomed.2019.05.002",
    "Isensee et al. 2021": "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH. nnU-Net: a self-configuring method "
    "for deep learning-based biomedical image segmentation. Nature Methods 2021;18:203-211. doi 10.1038/s41592-020-01008-z",
    "Menze et al. 2015": "Menze BH, Jakab A, Bauer S, et al. The multimodal brain tumor image segmentation benchmark (BRATS). "
    "IEEE Transactions on Medical Imaging 2015;34(10):1993-2024. doi 10.1109/TMI.2014.2377694",
    # Networks.
    "Ronneberger et al. 2015": "Ronneberger O, Fischer P, Brox T. U-Net: convolutional networks for biomedical image "
    "segmentation. MICCAI 2015. arXiv 1505.04597",
    "He et al. 2016": "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR 2016. arXiv 1512.03385",
    "Oktay et al. 2018": "Oktay O, Schlemper J, Le Folgoc L, et al. Attention U-Net: learning where to look for the pancreas. "
    "MIDL 2018. arXiv 1804.03999",
    "Chollet 2017": "Chollet F. Xception: deep learning with depthwise separable convolutions. CVPR 2017. arXiv 1610.02357",
    "Ioffe and Szegedy 2015": "Ioffe S, Szegedy C. Batch normalization: accelerating deep network training by reducing "
    "internal covariate shift. ICML 2015. arXiv 1502.03167",
    "Wu and He 2018": "Wu Y, He K. Group normalization. ECCV 2018. arXiv 1803.08494",
    "Ulyanov et al. 2016": "Ulyanov D, Vedaldi A, Lempitsky V. Instance normalization: the missing ingredient for fast "
    "stylization. 2016. arXiv 1607.08022",
    "Lee et al. 2015": "Lee CY, Xie S, Gallagher P, Zhang Z, Tu Z. Deeply-supervised nets. AISTATS 2015. arXiv 1409.5185",
    "Tompson et al. 2015": "Tompson J, Goroshin R, Jain A, LeCun Y, Bregler C. Efficient object localization using "
    "convolutional networks. CVPR 2015. arXiv 1411.4280",
    # Losses.
    "Lin et al. 2017": "Lin TY, Goyal P, Girshick R, He K, Dollár P. Focal loss for dense object detection. ICCV 2017. "
    "arXiv 1708.02002",
    "Milletari et al. 2016": "Milletari F, Navab N, Ahmadi SA. V-Net: fully convolutional neural networks for volumetric "
    "medical image segmentation. 3DV 2016. arXiv 1606.04797",
    "Salehi et al. 2017": "Salehi SSM, Erdogmus D, Gholipour A. Tversky loss function for image segmentation using 3D fully "
    "convolutional deep networks. MLMI 2017. arXiv 1706.05721",
    "Abraham and Khan 2019": "Abraham N, Khan NM. A novel focal Tversky loss function with improved attention U-Net for "
    "lesion segmentation. ISBI 2019. arXiv 1810.07842",
    # Training.
    "Kingma and Ba 2015": "Kingma DP, Ba J. Adam: a method for stochastic optimization. ICLR 2015. arXiv 1412.6980",
    "Loshchilov and Hutter 2017": "Loshchilov I, Hutter F. SGDR: stochastic gradient descent with warm restarts. ICLR 2017. "
    "arXiv 1608.03983",
    "Loshchilov and Hutter 2019": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019. arXiv 1711.05101",
    "Polyak and Juditsky 1992": "Polyak BT, Juditsky AB. Acceleration of stochastic approximation by averaging. SIAM Journal "
    "on Control and Optimization 1992;30(4):838-855. doi 10.1137/0330046",
    "Izmailov et al. 2018": "Izmailov P, Podoprikhin D, Garipov T, Vetrov D, Wilson AG. Averaging weights leads to wider "
    "optima and better generalization. UAI 2018. arXiv 1803.05407",
    "Buslaev et al. 2020": "Buslaev A, Iglovikov VI, Khvedchenya E, Parinov A, Druzhinin M, Kalinin AA. Albumentations: fast "
    "and flexible image augmentations. Information 2020;11(2):125. doi 10.3390/info11020125",
    # Scores.
    "Dice 1945": "Dice LR. Measures of the amount of ecologic association between species. Ecology 1945;26(3):297-302. "
    "doi 10.2307/1932409",
    "Jaccard 1912": "Jaccard P. The distribution of the flora in the alpine zone. New Phytologist 1912;11(2):37-50. "
    "doi 10.1111/j.1469-8137.1912.tb05611.x",
    "Taha and Hanbury 2015": "Taha AA, Hanbury A. Metrics for evaluating 3D medical image segmentation: analysis, selection, "
    "and tool. BMC Medical Imaging 2015;15:29. doi 10.1186/s12880-015-0068-x",
    "Huttenlocher et al. 1993": "Huttenlocher DP, Klanderman GA, Rucklidge WJ. Comparing images using the Hausdorff distance. "
    "IEEE Transactions on Pattern Analysis and Machine Intelligence 1993;15(9):850-863. doi 10.1109/34.232073",
    "Heimann et al. 2009": "Heimann T, van Ginneken B, Styner MA, et al. Comparison and evaluation of methods for liver "
    "segmentation from CT datasets. IEEE Transactions on Medical Imaging 2009;28(8):1251-1265. doi 10.1109/TMI.2009.2013851",
    "Nikolov et al. 2018": "Nikolov S, Blackwell S, Zverovitch A, et al. Deep learning to achieve clinically applicable "
    "segmentation of head and neck anatomy for radiotherapy. 2018. arXiv 1809.04430",
    "Isensee et al. 2020": "Isensee F, Jaeger PF, Full PM, Vollmuth P, Maier-Hein KH. nnU-Net for brain tumor segmentation. "
    "2020. arXiv 2011.00848",
    "Commowick et al. 2018": "Commowick O, Istace A, Kain M, et al. Objective evaluation of multiple sclerosis lesion "
    "segmentation using a data management and processing infrastructure. Scientific Reports 2018;8:13650. "
    "doi 10.1038/s41598-018-31911-7",
    # Statistics and software.
    "Efron 1987": "Efron B. Better bootstrap confidence intervals. Journal of the American Statistical Association "
    "1987;82(397):171-185. doi 10.2307/2289144",
    "Hesterberg 2015": "Hesterberg TC. What teachers should know about the bootstrap: resampling in the undergraduate "
    "statistics curriculum. The American Statistician 2015;69(4):371-386. doi 10.1080/00031305.2015.1089789",
    "Wilcoxon 1945": "Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bulletin 1945;1(6):80-83. "
    "doi 10.2307/3001968",
    "Holm 1979": "Holm S. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics "
    "1979;6(2):65-70",
    "Abadi et al. 2016": "Abadi M, Barham P, Chen J, et al. TensorFlow: a system for large-scale machine learning. OSDI 2016. "
    "arXiv 1605.08695",
    "Virtanen et al. 2020": "Virtanen P, Gommers R, Oliphant TE, et al. SciPy 1.0: fundamental algorithms for scientific "
    "computing in Python. Nature Methods 2020;17:261-272. doi 10.1038/s41592-019-0686-2",
    "Seabold and Perktold 2010": "Seabold S, Perktold J. Statsmodels: econometric and statistical modeling with Python. "
    "Proceedings of the 9th Python in Science Conference 2010. doi 10.25080/Majora-92bf1922-011",
    # Reporting.
    "Mongan et al. 2020": "Mongan J, Moy L, Kahn CE. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): a "
    "guide for authors and reviewers. Radiology: Artificial Intelligence 2020;2(2):e200029. doi 10.1148/ryai.2020200029",
    "Tejani et al. 2024": "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging "
    "(CLAIM): 2024 update. Radiology: Artificial Intelligence 2024;6(4):e240300. doi 10.1148/ryai.240300",
}


def cited(text: str) -> list[str]:
    """Return the references that a text cites, in alphabetical order of their keys."""
    return [reference for key, reference in sorted(REFERENCES.items()) if key in text]
